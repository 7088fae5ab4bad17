//! What is compared: members alone, an ensemble, and the ensemble fused in other ways.

use serde::{Deserialize, Serialize};

use crate::engine::{FusionRequest, Generate, GenerateError, ModelCard, Rule, WeightsRequest};

/// A model of the engine, fused in one way.
#[derive(Clone, Debug, PartialEq)]
pub struct System {
    /// As the tables call it.
    pub name: String,
    /// As the engine calls it.
    pub model: String,
    pub role: Role,
    pub fusion: FusionRequest,
    /// How it is fused, in one line.
    pub described: String,
    /// The members that take part; where there is a gate, the first decides who is asked.
    pub members: Vec<String>,
    /// The models, each of them known to the engine by its name, whose tokens a text can be cut
    /// into; one for all that share a vocabulary.
    pub vocabularies: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Member,
    Ensemble,
    /// Two of one member, which has to be that member.
    Copies,
}

/// Other ways to fuse an ensemble; all combinations of what is given are run.
#[derive(Clone, Debug, Default)]
pub struct Variants {
    pub rules: Vec<Rule>,
    pub weights: Vec<WeightsRequest>,
    pub gates: Vec<f64>,
}

impl System {
    /// One member of an ensemble, by itself.
    pub fn member(name: &str) -> Self {
        Self::plain(Role::Member, (name, name), vec![name.to_owned()], vec![name.to_owned()])
    }

    /// Two of a member, under the name that the engine knows them by.
    pub fn copies(name: &str, member: &str) -> Self {
        let members = vec![member.to_owned(), member.to_owned()];
        Self::plain(Role::Copies, (name, name), members, vec![member.to_owned()])
    }

    /// An ensemble, as it is set. The engine has to know its members by their names too.
    /// `primary` is the member that decides where a gate lets it, if that is not the first.
    ///
    /// # Errors
    /// If it does not.
    pub fn ensemble(
        engine: &dyn Generate,
        card: &ModelCard,
        primary: Option<&str>,
    ) -> Result<Self, GenerateError> {
        let mut vocabularies: Vec<String> = Vec::new();
        for member in &card.members {
            let pieces = engine.union(member)?.pieces();
            let shares = |other: &String| engine.union(other).is_ok_and(|u| u.pieces() == pieces);
            if !vocabularies.iter().any(shares) {
                vocabularies.push(member.clone());
            }
        }
        let mut members = card.members.clone();
        members.sort_by_key(|member| Some(member.as_str()) != primary);
        let names = (card.name.as_str(), card.fusion.as_str());
        Ok(Self::plain(Role::Ensemble, names, members, vocabularies))
    }

    fn plain(
        role: Role,
        (name, described): (&str, &str),
        members: Vec<String>,
        vocabularies: Vec<String>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            model: name.to_owned(),
            role,
            fusion: FusionRequest::default(),
            described: described.to_owned(),
            members,
            vocabularies,
        }
    }

    /// What is told of a text's probability is a bound, for it can be cut in more than one way.
    pub fn is_bound(&self) -> bool {
        self.vocabularies.len() > 1
    }

    /// The ensemble in each of the other ways.
    pub fn variants(&self, variants: &Variants) -> Vec<Self> {
        let Variants { rules, weights, gates } = variants;
        let mut all = Vec::new();
        for rule in options(rules) {
            for weights in options(weights) {
                for gate in options(gates) {
                    let mut said = Vec::new();
                    said.extend(rule.map(|rule| format!("rule {rule}")));
                    said.extend(weights.map(|weights| format!("weights {}", written(weights))));
                    said.extend(gate.map(|gate| format!("gate {gate}")));
                    if said.is_empty() {
                        continue;
                    }
                    let fusion = FusionRequest {
                        rule: rule.copied(),
                        weights: weights.cloned(),
                        gate: gate.copied(),
                        ..self.fusion.clone()
                    };
                    let said = said.join(", ");
                    all.push(Self {
                        name: format!("{}, {said}", self.name),
                        described: format!("{}; with {said}", self.described),
                        fusion,
                        ..self.clone()
                    });
                }
            }
        }
        all
    }
}

/// Each of the given; nothing, once, if there are none.
fn options<T>(given: &[T]) -> Vec<Option<&T>> {
    if given.is_empty() { vec![None] } else { given.iter().map(Some).collect() }
}

fn written(weights: &WeightsRequest) -> String {
    match weights {
        WeightsRequest::By(way) => way.to_string(),
        WeightsRequest::InOrder(weights) => {
            let weights: Vec<String> = weights.iter().map(ToString::to_string).collect();
            weights.join(":")
        }
        WeightsRequest::Named(weights) => {
            let weights: Vec<String> =
                weights.iter().map(|(name, weight)| format!("{name}={weight}")).collect();
            weights.join(":")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Weighting;

    #[test]
    fn variants_are_all_combinations_of_what_is_given() {
        let names = || ["a", "b"].map(str::to_owned).to_vec();
        let duet = System::plain(Role::Ensemble, ("duet", "a + b"), names(), names());
        assert!(duet.variants(&Variants::default()).is_empty());
        let variants = Variants {
            rules: vec![Rule::Mean, Rule::Max],
            weights: vec![
                WeightsRequest::InOrder(vec![0.4, 0.6]),
                WeightsRequest::By(Weighting::Online),
            ],
            gates: vec![0.9],
        };
        let names: Vec<String> =
            duet.variants(&variants).into_iter().map(|system| system.name).collect();
        assert_eq!(names.len(), 4);
        assert_eq!(names[0], "duet, rule mean, weights 0.4:0.6, gate 0.9");
        assert_eq!(names[3], "duet, rule max, weights online, gate 0.9");
        assert!(duet.is_bound() && !System::member("a").is_bound());
    }
}
