//! How the members' distributions become one: what an ensemble is set to, and what a request
//! changes of it.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};

use super::{Ensemble, Member, Weighting};

/// How the members' probabilities of a piece become one. The exact definitions are in
/// [`mix`](super::mix).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Rule {
    /// The weighted arithmetic mean.
    #[default]
    Mean,
    /// The weighted power mean, its exponent from 0 (the geometric mean) to 1.
    Power { exponent: f32, floor: f32 },
    /// The largest weighted probability.
    Max,
    /// The mean of those members who would say what most say.
    Majority,
}

/// Unless it is set, a member's probability counts as at least this share of the mean.
const FLOOR: f32 = 0.01;

/// Smaller exponents but 0 would need more than 32 bits.
const LEAST_EXPONENT: f32 = 0.05;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    #[error(
        "is `{given}`; it must be mean, power:R with R 0 or from 0.05 to 1, geometric, max or majority"
    )]
    Unknown { given: String },
    #[error("has the exponent {given}; it must be 0, or from {LEAST_EXPONENT} to 1")]
    Exponent { given: String },
    #[error("is {given}; it must be greater than 0 and at most 1")]
    Floor { given: String },
    #[error("means nothing to the rule `{rule}`; leave it out, or use power:R or geometric")]
    NoFloor { rule: String },
}

impl Rule {
    /// The rule with another floor.
    ///
    /// # Errors
    /// If it knows no floor, or the floor is not above 0 and at most 1.
    pub fn with_floor(self, floor: f64) -> Result<Self, RuleError> {
        let Self::Power { exponent, .. } = self else {
            return Err(RuleError::NoFloor { rule: self.to_string() });
        };
        if floor > 0.0 && floor <= 1.0 {
            let floor = (floor as f32).max(f32::MIN_POSITIVE);
            Ok(Self::Power { exponent, floor })
        } else {
            Err(RuleError::Floor { given: floor.to_string() })
        }
    }

    /// What it counts a member's probability as at least, as a share of the mean.
    pub fn floor(self) -> Option<f32> {
        match self {
            Self::Power { floor, .. } => Some(floor),
            Self::Mean | Self::Max | Self::Majority => None,
        }
    }
}

/// As `rule` is written in the configuration and in requests.
impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let exponent = match text {
            "mean" => return Ok(Self::Mean),
            "max" => return Ok(Self::Max),
            "majority" => return Ok(Self::Majority),
            "geometric" => "0",
            _ => text
                .strip_prefix("power:")
                .ok_or_else(|| RuleError::Unknown { given: text.to_owned() })?,
        };
        let given = || RuleError::Exponent { given: exponent.to_owned() };
        let exponent: f32 = exponent.trim().parse().map_err(|_| given())?;
        if exponent == 1.0 {
            // Of the arithmetic mean nothing needs a floor.
            Ok(Self::Mean)
        } else if exponent == 0.0 || (LEAST_EXPONENT..1.0).contains(&exponent) {
            Ok(Self::Power { exponent: exponent.abs(), floor: FLOOR })
        } else {
            Err(given())
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mean => f.write_str("mean"),
            Self::Power { exponent: 0.0, .. } => f.write_str("geometric"),
            Self::Power { exponent, .. } => write!(f, "power:{exponent}"),
            Self::Max => f.write_str("max"),
            Self::Majority => f.write_str("majority"),
        }
    }
}

/// How one generation is fused: an ensemble's own way, or what a request made of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Fusion {
    pub rule: Rule,
    /// Each member's share, summing to 1; a member of weight 0 takes no part.
    pub(super) weights: Vec<f32>,
    pub(super) weighting: Weighting,
    /// Where the primary's most probable piece has at least this probability, it decides alone.
    /// At 0 it always does, above 1 never.
    gate: Option<f64>,
    pub(super) primary: usize,
    pub on_failure: OnFailure,
}

/// What an ensemble is set to, but for its members' own weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    pub rule: Rule,
    pub weights: Weighting,
    /// Not negative; `None` runs all members at every step.
    pub gate: Option<f64>,
    pub on_failure: OnFailure,
}

/// What becomes of a generation when one of its members fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// It ends with an error that names the member.
    #[default]
    End,
    /// It goes on without the member, the others' weights scaled up, with a warning.
    Continue,
}

/// What a request changes of an ensemble's fusion.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FusionRequest {
    /// Only these members take part.
    pub members: Option<Vec<String>>,
    pub weights: Option<WeightsRequest>,
    pub rule: Option<Rule>,
    /// Above 1 it turns a gate off.
    pub gate: Option<f64>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum WeightsRequest {
    /// Of the members that take part, in the ensemble's order.
    InOrder(Vec<f32>),
    /// By member; the others keep the ensemble's.
    Named(Vec<(String, f32)>),
    /// From the ensemble's own, in this way.
    By(Weighting),
}

/// Why an ensemble cannot be fused as a request asks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FusionError {
    #[error("names `{name}`, which is no member; there are: {}", .available.join(", "))]
    UnknownMember { param: &'static str, name: String, available: Vec<String> },
    #[error("is empty; name at least one member, or leave it out")]
    NoMembers,
    #[error("has {found} weights for {expected} members: {}", .members.join(", "))]
    WeightCount { found: usize, expected: usize, members: Vec<String> },
    #[error("gives `{member}` the weight {weight}; it must be a number and not negative")]
    Weight { member: String, weight: String },
    #[error("is {gate}; it must be a number and not negative; above 1 it is off")]
    Gate { gate: String },
    #[error("leaves no member with a weight; give one a usual weight")]
    NoWeight,
}

impl FusionError {
    /// The part of a request that is wrong, as it is called there.
    pub fn param(&self) -> &'static str {
        match self {
            Self::UnknownMember { param, .. } => param,
            Self::NoMembers => "ensemble.members",
            Self::Gate { .. } => "ensemble.gate",
            Self::WeightCount { .. } | Self::Weight { .. } | Self::NoWeight => "ensemble.weights",
        }
    }
}

impl Fusion {
    /// All members under their own weights.
    pub(super) fn of(members: &[Member], settings: &Settings) -> Self {
        Self {
            rule: settings.rule,
            weights: members.iter().map(|member| member.weight).collect(),
            weighting: settings.weights,
            gate: settings.gate,
            primary: members.iter().position(|member| member.primary).unwrap_or(0),
            on_failure: settings.on_failure,
        }
    }

    /// Settles who is the primary and what the gate comes to.
    fn settled(mut self) -> Self {
        self.gate = self.gate.filter(|&gate| gate <= 1.0);
        self.find_primary();
        if self.gate == Some(0.0) {
            self.weights.fill(0.0);
            self.weights[self.primary] = 1.0;
        }
        self
    }

    /// If the primary takes no part, the first who does is in its place.
    fn find_primary(&mut self) {
        if !self.is_active(self.primary) {
            let first = self.active().next();
            self.primary = first.unwrap_or(self.primary);
        }
    }

    /// Its threshold, if there is a gate.
    pub(super) fn gate(&self) -> Option<f64> {
        self.gate
    }

    /// Goes on without a member; `None` if there is no other.
    pub(super) fn lose(&mut self, member: usize) -> Option<()> {
        self.weights[member] = 0.0;
        self.normalise()?;
        self.find_primary();
        Some(())
    }

    /// Whether a member takes part.
    pub fn is_active(&self, member: usize) -> bool {
        self.weights[member] > 0.0
    }

    /// The members that take part, in order.
    pub fn active(&self) -> impl Iterator<Item = usize> {
        (0..self.weights.len()).filter(|&member| self.is_active(member))
    }

    /// Scales the weights to sum to 1; `None` if there is nothing to scale.
    fn normalise(&mut self) -> Option<()> {
        let sum: f32 = self.weights.iter().sum();
        let sound = sum.is_finite() && sum > 0.0;
        sound.then(|| self.weights.iter_mut().for_each(|weight| *weight /= sum))
    }
}

impl Member {
    /// Its name and what it is told and given that others are not.
    fn described(&self) -> String {
        let mut set = Vec::new();
        if self.temperature != 1.0 {
            set.push(format!("temperature {}", self.temperature));
        }
        // Only whether it is the same: what an operator tells a member is not everybody's business.
        set.extend(self.system.as_ref().map(|system| {
            let digest: String =
                Sha256::digest(system).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            format!("system #{digest}")
        }));
        set.extend(self.template_args.iter().map(|(name, value)| format!("{name} {value}")));
        match set.is_empty() {
            true => self.name.clone(),
            false => format!("{} ({})", self.name, set.join(", ")),
        }
    }
}

impl Ensemble {
    /// Its members, their weights, its rule and its gate in one line, with all else that they are
    /// set to and are not by themselves: for people and for telling whether two ensembles are set
    /// alike.
    pub fn described(&self) -> String {
        let fusion = self.fusion();
        let members = self.members().iter().zip(&fusion.weights);
        let shares: Vec<_> =
            members.map(|(member, weight)| format!("{weight} {}", member.described())).collect();
        let mut text = format!("{}, rule {}", shares.join(" + "), fusion.rule);
        if let Some(floor) = fusion.rule.floor().filter(|&floor| floor != FLOOR) {
            text += &format!(", floor {floor}");
        }
        if fusion.weighting != Weighting::Fixed {
            text += &format!(", weights {}", fusion.weighting);
        }
        if let Some(gate) = fusion.gate {
            text += &format!(", gate {gate}");
            if fusion.primary != 0 {
                text += &format!(" of {}", self.members()[fusion.primary].name);
            }
        }
        text
    }

    /// How its members are fused where a request does not say.
    pub fn fusion(&self) -> Fusion {
        self.fusion.clone().settled()
    }

    /// How this ensemble fuses what `request` asks.
    ///
    /// # Errors
    /// If the request names who is no member, or leaves no one with a weight.
    pub fn fuse(&self, request: &FusionRequest) -> Result<Fusion, FusionError> {
        let mut fusion = self.fusion.clone();
        if let Some(rule) = request.rule {
            fusion.rule = rule;
        }
        if let Some(gate) = request.gate {
            if gate.is_nan() || gate < 0.0 {
                return Err(FusionError::Gate { gate: gate.to_string() });
            }
            fusion.gate = Some(gate);
        }
        if request.members.is_none() && request.weights.is_none() {
            return Ok(fusion.settled());
        }
        if let Some(members) = &request.members {
            if members.is_empty() {
                return Err(FusionError::NoMembers);
            }
            self.check_names(members, "ensemble.members")?;
            for (member, weight) in self.members.iter().zip(&mut fusion.weights) {
                if !members.contains(&member.name) {
                    *weight = 0.0;
                }
            }
        }
        if let Some(weights) = &request.weights {
            self.reweigh(&mut fusion, weights)?;
        }
        fusion.normalise().ok_or(FusionError::NoWeight)?;
        Ok(fusion.settled())
    }

    fn check_names(&self, names: &[String], param: &'static str) -> Result<(), FusionError> {
        let known = |name: &&String| self.members.iter().any(|member| member.name == **name);
        match names.iter().find(|name| !known(name)) {
            None => Ok(()),
            Some(name) => Err(FusionError::UnknownMember {
                param,
                name: name.clone(),
                available: self.members.iter().map(|member| member.name.clone()).collect(),
            }),
        }
    }

    fn reweigh(&self, fusion: &mut Fusion, asked: &WeightsRequest) -> Result<(), FusionError> {
        let taking_part: Vec<usize> = fusion.active().collect();
        // Who gives weights wants these.
        fusion.weighting = Weighting::Fixed;
        let new: Vec<(usize, f32)> = match asked {
            WeightsRequest::By(weighting) => {
                fusion.weighting = *weighting;
                Vec::new()
            }
            WeightsRequest::InOrder(weights) if weights.len() != taking_part.len() => {
                let name = |&member: &usize| self.members[member].name.clone();
                return Err(FusionError::WeightCount {
                    found: weights.len(),
                    expected: taking_part.len(),
                    members: taking_part.iter().map(name).collect(),
                });
            }
            WeightsRequest::InOrder(weights) => {
                taking_part.into_iter().zip(weights.iter().copied()).collect()
            }
            WeightsRequest::Named(weights) => {
                let names: Vec<String> = weights.iter().map(|(name, _)| name.clone()).collect();
                self.check_names(&names, "ensemble.weights")?;
                let of = |&member: &usize| {
                    let named = weights.iter().find(|(name, _)| *name == self.members[member].name);
                    named.map(|&(_, weight)| (member, weight))
                };
                taking_part.iter().filter_map(of).collect()
            }
        };
        for (member, weight) in new {
            if !weight.is_finite() || weight < 0.0 {
                let member = self.members[member].name.clone();
                return Err(FusionError::Weight { member, weight: weight.to_string() });
            }
            fusion.weights[member] = weight;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_written_as_it_is_read() {
        for text in ["mean", "power:0.5", "geometric", "max", "majority"] {
            assert_eq!(text.parse::<Rule>().unwrap().to_string(), text);
        }
        assert_eq!("power:0".parse(), Ok(Rule::Power { exponent: 0.0, floor: FLOOR }));
        assert_eq!("power:1".parse(), Ok(Rule::Mean));
    }

    #[test]
    fn a_rule_that_is_none_is_refused_with_the_way_out() {
        for text in
            ["", "median", "power", "power:", "power:2", "power:-1", "power:nan", "power:0.001"]
        {
            let refusal = text.parse::<Rule>().unwrap_err().to_string();
            assert!(refusal.contains("must be"), "{text}: {refusal}");
        }
        let power: Rule = "power:0.5".parse().unwrap();
        assert_eq!(power.with_floor(0.5).unwrap().floor(), Some(0.5));
        for floor in [0.0, -1.0, 1.5, f64::NAN] {
            assert!(matches!(power.with_floor(floor), Err(RuleError::Floor { .. })), "{floor}");
        }
        assert!(matches!(Rule::Max.with_floor(0.5), Err(RuleError::NoFloor { .. })));
    }
}
