//! Finds the weights and calibration temperatures of the rule `mean` under which texts take the
//! fewest bits per byte, from what each member gave each piece: no model is run.
//!
//! Pure: records of the task [`Kind::Masses`](super::task::Kind) in, settings and figures out.
//!
//! The probability of a text is that of [`lattice`](super::lattice), with the mixture
//! `m(u) = sum of w_i p_i(u)` at each edge. For given temperatures the weights come from expectation
//! and maximisation (Dempster, Laird and Rubin 1977): which member an edge came from, and which
//! edges a text came over, is what is not seen; each round gives a member the share of the edges
//! that it accounts for, and never lowers the probability. Where the members share a vocabulary
//! there is one path, the logarithm is concave in the weights, and the end is the best there is.
//! Temperatures are moved one member at a time, to the place of the grid that helps most, until none
//! helps.

use std::fmt::Write;

use serde::Deserialize;

use super::{
    Split,
    lattice::{self, Edge},
    log::Record,
    stats::{self, Better, Comparison, Estimate, Paired, Part},
};
use crate::engine::TEMPERATURE_FACTORS;

/// Why nothing can be found.
#[derive(Debug, thiserror::Error)]
pub enum TuneError {
    /// No text of a split has been read.
    #[error("no text of the {} split has been read; take more samples", match split {
        Split::Dev => "dev",
        Split::Test => "test",
    })]
    NoTexts {
        /// The split.
        split: Split,
    },
    /// A record holds no masses of these members.
    #[error("what the log says of sample {sample} are no masses of {members} members: {reason}")]
    Record {
        /// The sample.
        sample: String,
        /// How many there should be.
        members: usize,
        /// What is wrong.
        reason: String,
    },
}

/// The weights and temperatures of a mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// One for each member, summing to 1.
    pub weights: Vec<f64>,
    /// For each member a place in [`TEMPERATURE_FACTORS`].
    temperatures: Vec<usize>,
}

impl Setting {
    /// These weights, in any scale, at the members' own temperatures.
    pub fn of(weights: &[f64]) -> Self {
        let own = TEMPERATURE_FACTORS.iter().position(|&factor| factor == 1.0);
        let own = own.expect("the members' own temperature is on the grid");
        Self { weights: scaled(weights), temperatures: vec![own; weights.len()] }
    }

    /// What each member's own temperature is to be multiplied by.
    pub fn factors(&self) -> impl Iterator<Item = f32> {
        self.temperatures.iter().map(|&place| TEMPERATURE_FACTORS[place])
    }

    /// The weights as one writes them: in hundredths. Who then has none is to be left out.
    fn rounded(&self) -> Self {
        let hundredths: Vec<f64> =
            self.weights.iter().map(|weight| (weight * 100.0).round() / 100.0).collect();
        Self { weights: scaled(&hundredths), ..self.clone() }
    }
}

fn scaled(weights: &[f64]) -> Vec<f64> {
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

/// A setting and what it gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// What of the setting was found.
    pub name: &'static str,
    pub setting: Setting,
    /// Bits per byte on the texts that it was found on.
    pub dev: f64,
    /// On the others.
    pub test: Estimate,
    /// On these against the setting that one began with; `None` of that itself.
    pub against: Option<Comparison>,
}

/// The setting one has, the best weights, and the best weights and temperatures, found on the dev
/// texts and tried on the others. The weights are those that are told, in hundredths.
///
/// # Errors
/// If a split has no texts, or a record is not of [`Kind::Masses`](super::task::Kind) of as many
/// members as there are weights.
pub fn tune(records: &[Record], weights: &[f64], seed: u64) -> Result<Vec<Stage>, TuneError> {
    let mut texts = (Vec::new(), Vec::new());
    for record in records.iter().filter(|record| record.error.is_none()) {
        let text = Text::read(record, weights.len())?;
        match record.split {
            Split::Dev => texts.0.push(text),
            Split::Test => texts.1.push(text),
        }
    }
    let (dev, test) = texts;
    for (texts, split) in [(&dev, Split::Dev), (&test, Split::Test)] {
        if texts.is_empty() {
            return Err(TuneError::NoTexts { split });
        }
    }
    let begun = Setting::of(weights);
    let weighed = best_weights(&dev, &Setting::of(&vec![1.0; weights.len()]));
    let calibrated = best_temperatures(&dev, weighed.clone());
    let stages = [
        ("as it is set", begun),
        ("weights", weighed.rounded()),
        ("weights and temperatures", calibrated.rounded()),
    ];
    let parts: Vec<Vec<Part>> = stages.iter().map(|(_, setting)| parts(&test, setting)).collect();
    let paired = |ours| Paired { ours, theirs: &parts[0], better: Better::Lower, is_share: false };
    let pairs: Vec<Paired<'_>> = parts[1..].iter().map(|ours| paired(ours)).collect();
    let against = std::iter::once(None).chain(stats::compare(&pairs, seed).into_iter().map(Some));
    let stage = |(((name, setting), parts), against): (((_, Setting), &Vec<Part>), _)| Stage {
        name,
        dev: bits_per_byte(&dev, &setting),
        test: stats::estimate(parts, None, seed),
        setting,
        against,
    };
    Ok(stages.into_iter().zip(&parts).zip(against).map(stage).collect())
}

/// The stages as a table for people.
pub fn table(stages: &[Stage], members: &[String]) -> String {
    let mut text = "| found | setting | dev, bits per byte | test | difference | |\n\
                    |---|---|---|---|---|---|\n"
        .to_owned();
    for Stage { name, setting, dev, test, against } in stages {
        let member = |((member, weight), factor): ((&String, &f64), f32)| {
            let times =
                if factor == 1.0 { String::new() } else { format!(", temperature x {factor}") };
            format!("{member} {weight:.2}{times}")
        };
        let members: Vec<String> =
            members.iter().zip(&setting.weights).zip(setting.factors()).map(member).collect();
        let (difference, verdict) = against.as_ref().map_or_else(Default::default, |against| {
            let Estimate { value, low, high } = against.difference;
            (format!("{value:+.4} [{low:+.4}, {high:+.4}]"), against.verdict.to_string())
        });
        let Estimate { value, low, high } = test;
        writeln!(
            text,
            "| {name} | {} | {dev:.4} | {value:.4} [{low:.4}, {high:.4}] | {difference} | {verdict} |",
            members.join("; ")
        )
        .expect("a string takes any text");
    }
    text
}

/// What of a text its probability depends on.
struct Text {
    bytes: usize,
    edges: Vec<Given>,
}

/// A piece of a text and what members gave it.
struct Given {
    start: usize,
    end: usize,
    /// For each member, at each temperature; natural logarithms.
    masses: Vec<Vec<f64>>,
}

/// What the task keeps of a sample.
#[derive(Deserialize)]
struct Detail {
    readings: Vec<Vec<Piece>>,
}

/// A piece's bytes, and for each member what it gave at each temperature.
type Piece = (usize, Vec<Vec<Option<f64>>>);

impl Text {
    fn read(record: &Record, members: usize) -> Result<Self, TuneError> {
        let wrong = |reason: String| {
            let sample = record.sample.clone();
            TuneError::Record { sample, members, reason }
        };
        let detail =
            Detail::deserialize(&record.detail).map_err(|error| wrong(error.to_string()))?;
        let mut edges = Vec::new();
        let mut bytes = 0;
        for reading in detail.readings {
            let mut start = 0;
            for (length, masses) in reading {
                let whole = |of: &Vec<Option<f64>>| of.len() == TEMPERATURE_FACTORS.len();
                if masses.len() != members || !masses.iter().all(whole) || length == 0 {
                    return Err(wrong(format!("the piece at byte {start} has others")));
                }
                let known = |ln: Option<f64>| ln.unwrap_or(f64::NEG_INFINITY);
                let masses: Vec<Vec<f64>> =
                    masses.into_iter().map(|of| of.into_iter().map(known).collect()).collect();
                edges.push(Given { start, end: start + length, masses });
                start += length;
            }
            bytes = start;
        }
        // The same piece in two readings is one edge, as in `lattice::log_mass`.
        edges.sort_by_key(|edge| (edge.start, edge.end));
        edges.dedup_by_key(|edge| (edge.start, edge.end));
        Ok(Self { bytes, edges })
    }

    fn mixed(&self, setting: &Setting) -> Vec<Edge> {
        let mix = |Given { start, end, masses }: &Given| {
            let Setting { weights, temperatures } = setting;
            let given = masses.iter().zip(temperatures).zip(weights);
            let mass: f64 = given.map(|((of, &at), weight)| weight * of[at].exp()).sum();
            Edge { start: *start, end: *end, logprob: mass.ln() }
        };
        self.edges.iter().map(mix).collect()
    }

    /// Adds to `counts` how many of the text's pieces each member is expected to have given.
    fn expect(&self, setting: &Setting, counts: &mut [f64]) {
        let edges = self.mixed(setting);
        let (to, from) = lattice::both_ways(self.bytes, &edges);
        for (edge, given) in edges.iter().zip(&self.edges) {
            // The share of the text's probability that goes over this edge, in units of its own.
            let over = to[edge.start] + from[edge.end] - to[self.bytes];
            if !over.is_finite() {
                continue;
            }
            for (member, count) in counts.iter_mut().enumerate() {
                let ln = given.masses[member][setting.temperatures[member]];
                *count += setting.weights[member] * (over + ln).exp();
            }
        }
    }
}

/// Each text's bits with its bytes.
fn parts(texts: &[Text], setting: &Setting) -> Vec<Part> {
    let part = |text: &Text| Part {
        value: -lattice::log_mass(text.bytes, text.mixed(setting)) / std::f64::consts::LN_2,
        size: text.bytes as f64,
    };
    texts.iter().map(part).collect()
}

fn bits_per_byte(texts: &[Text], setting: &Setting) -> f64 {
    let parts = parts(texts, setting);
    parts.iter().map(|part| part.value).sum::<f64>()
        / parts.iter().map(|part| part.size).sum::<f64>()
}

/// A change of a weight by less than this ends the search: hundredths are told.
const SETTLED: f64 = 1e-5;
const MOST_ROUNDS: usize = 300;

/// The best weights at a setting's temperatures, from its weights on.
fn best_weights(texts: &[Text], setting: &Setting) -> Setting {
    let mut best = setting.clone();
    for _ in 0..MOST_ROUNDS {
        let mut counts = vec![0.0; best.weights.len()];
        for text in texts {
            text.expect(&best, &mut counts);
        }
        let weights = scaled(&counts);
        let moved = weights.iter().zip(&best.weights).map(|(new, old)| (new - old).abs());
        let moved = moved.fold(0.0, f64::max);
        best.weights = weights;
        if moved < SETTLED {
            break;
        }
    }
    best
}

/// Fewer bits per byte than this are no gain.
const GAIN: f64 = 1e-5;

/// Moves the temperature of one member after the other, always the one whose move helps most, until
/// none does.
fn best_temperatures(texts: &[Text], begun: Setting) -> Setting {
    let mut least = bits_per_byte(texts, &begun);
    let mut best = begun;
    loop {
        let mut found = None;
        for member in 0..best.weights.len() {
            for place in 0..TEMPERATURE_FACTORS.len() {
                let mut tried = best.clone();
                tried.temperatures[member] = place;
                let candidate = best_weights(texts, &tried);
                let bits = bits_per_byte(texts, &candidate);
                if bits < least - GAIN {
                    (least, found) = (bits, Some(candidate));
                }
            }
        }
        match found {
            Some(candidate) => best = candidate,
            None => return best,
        }
    }
}

#[cfg(test)]
mod tests;
