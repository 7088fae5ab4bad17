//! How fast models and ensembles are on this machine, and where a step's time goes.
//!
//! Knows no server and no engine: it times forward passes and steps, nothing around them.
//!
//! A run is a few rounds, and each round measures everything once, so that what else the machine
//! does meanwhile hits all figures alike. A figure is the median of its rounds.

mod gate;
mod machine;
mod measure;
mod table;

use std::sync::Arc;

use serde::Serialize;

pub use gate::GateSpeed;
pub use machine::{Machine, Memory};
pub use measure::{Decode, FirstToken, Lockstep, decode, first_token, lockstep, prefill};

use crate::{
    ensemble::{Ensemble, FusionError, StartError, StepError},
    model::ModelError,
    sampling::SamplingParams,
};

/// What is measured, and how often.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub rounds: usize,
    /// Lengths of prompts, in tokens; those that a model's context cannot hold are left out.
    pub prefill: Vec<usize>,
    /// Numbers of sequences that are continued together.
    pub batches: Vec<usize>,
    /// What each of them has read before, in tokens.
    pub prompt: usize,
    /// How many tokens each of them is continued by.
    pub steps: usize,
    /// The beginning that two requests share, in tokens.
    pub shared: usize,
    /// The most prompt tokens of one step of an ensemble.
    pub prefill_chunk: usize,
    /// Thresholds that ensembles are measured with, beside none.
    pub gates: Vec<f64>,
    /// How an ensemble's pieces are drawn.
    pub sampling: SamplingParams,
}

impl Plan {
    /// A few minutes for small models.
    pub fn full() -> Self {
        Self {
            rounds: 3,
            prefill: vec![128, 512],
            batches: vec![1, 4, 8],
            prompt: 32,
            steps: 32,
            shared: 256,
            prefill_chunk: 128,
            gates: Vec::new(),
            sampling: SamplingParams::default(),
        }
    }

    /// A first impression.
    pub fn quick() -> Self {
        Self { rounds: 1, steps: 8, ..Self::full() }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Step(#[from] StepError),
    #[error(transparent)]
    Fusion(FusionError),
    #[error("every text ends at once ({attempts} in a row); measure with a higher temperature")]
    OnlyEnds { attempts: u64 },
}

/// The figures of one run. Times are milliseconds, speeds are tokens a second of all sequences
/// together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub machine: Machine,
    /// `None` if nobody has said it.
    pub load: Option<Load>,
    /// After each model has read one token and forgotten it: weights, tokenizers and maps, but no
    /// keys and values. `None` where the system does not tell.
    pub memory: Option<Memory>,
    pub rounds: usize,
    pub models: Vec<ModelReport>,
    pub ensembles: Vec<EnsembleReport>,
}

/// What it took to be ready, files fetched before.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Load {
    pub seconds: f64,
    /// Of all the weights' files, in bytes.
    pub files: u64,
}

/// One model, without the drawing of tokens.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelReport {
    pub name: String,
    /// Bytes of keys and values that one token takes.
    pub cache_bytes_a_token: f64,
    pub prefill: Vec<PrefillSpeed>,
    pub decode: Vec<DecodeSpeed>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PrefillSpeed {
    pub tokens: usize,
    pub tokens_per_second: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DecodeSpeed {
    pub batch: usize,
    pub tokens_per_second: f64,
}

/// Several models in lock-step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EnsembleReport {
    pub name: String,
    pub members: Vec<String>,
    pub lockstep: Vec<LockstepSpeed>,
    pub first_token: FirstTokenTimes,
    /// Without a gate and with each that was asked for.
    pub gates: Vec<GateSpeed>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LockstepSpeed {
    pub batch: usize,
    pub tokens_per_second: f64,
    pub step_ms: f64,
    /// What a step consists of, in its order.
    pub parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    pub name: String,
    pub ms: f64,
    /// Of the step.
    pub percent: f64,
}

/// From a prompt's text to the first piece.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FirstTokenTimes {
    pub prompt_tokens: usize,
    pub cold_ms: f64,
    /// Where a request before has begun alike.
    pub shared_ms: f64,
    /// `shared_ms` of `cold_ms`.
    pub ratio: f64,
}

/// Measures each ensemble; those of one member as that model. `say` hears what is measured now.
///
/// # Errors
/// If something cannot be run: the context of a model is too short for the plan, or a member
/// fails.
pub fn run(
    machine: Machine,
    subjects: &[(String, Arc<Ensemble>)],
    plan: &Plan,
    say: &dyn Fn(&str),
) -> Result<Report, BenchError> {
    let mut models: Vec<Vec<ModelReport>> = Vec::new();
    let mut ensembles: Vec<Vec<EnsembleReport>> = Vec::new();
    let (single, several): (Vec<_>, Vec<_>) =
        subjects.iter().partition(|(_, ensemble)| ensemble.members().len() == 1);
    for member in subjects.iter().flat_map(|(_, ensemble)| ensemble.members()) {
        // The first forward brings the weights from the disk.
        prefill(&*member.model, 1)?;
    }
    let memory = Memory::here();
    for round in 1..=plan.rounds {
        let say = |name: &str| say(&format!("round {round} of {}: {name}", plan.rounds));
        let measured = single.iter().map(|(name, ensemble)| {
            say(name);
            ModelReport::measure(name, ensemble, plan)
        });
        models.push(measured.collect::<Result<_, _>>()?);
        let measured = several.iter().map(|(name, ensemble)| {
            say(name);
            EnsembleReport::measure(name, ensemble, plan)
        });
        ensembles.push(measured.collect::<Result<_, _>>()?);
    }
    Ok(Report {
        machine,
        load: None,
        memory,
        rounds: plan.rounds,
        models: each(&models, ModelReport::median),
        ensembles: each(&ensembles, EnsembleReport::median),
    })
}

/// One report for each subject, out of those of all rounds.
fn each<T>(rounds: &[Vec<T>], median: impl Fn(&[&T]) -> T) -> Vec<T> {
    let subjects = rounds.first().map_or(0, Vec::len);
    (0..subjects)
        .map(|index| median(&rounds.iter().map(|round| &round[index]).collect::<Vec<_>>()))
        .collect()
}

impl ModelReport {
    fn measure(name: &str, ensemble: &Ensemble, plan: &Plan) -> Result<Self, BenchError> {
        let model = &*ensemble.members()[0].model;
        let fits = |&&tokens: &&usize| tokens <= model.context_length();
        let prefill = plan.prefill.iter().filter(fits).map(|&tokens| {
            let time = prefill(model, tokens)?;
            Ok(PrefillSpeed { tokens, tokens_per_second: tokens as f64 / time.as_secs_f64() })
        });
        let decode = plan.batches.iter().map(|&batch| {
            let time = decode(model, Decode { batch, prompt: plan.prompt, steps: plan.steps })?;
            let tokens = batch * plan.steps;
            Ok(DecodeSpeed { batch, tokens_per_second: tokens as f64 / time.as_secs_f64() })
        });
        Ok(Self {
            name: name.to_owned(),
            cache_bytes_a_token: measure::cache_bytes_a_token(model, plan.prompt.max(1))?,
            prefill: prefill.collect::<Result<_, BenchError>>()?,
            decode: decode.collect::<Result<_, BenchError>>()?,
        })
    }

    fn median(rounds: &[&Self]) -> Self {
        let mut report = rounds[0].clone();
        for (index, speed) in report.prefill.iter_mut().enumerate() {
            speed.tokens_per_second =
                median(rounds.iter().map(|round| round.prefill[index].tokens_per_second));
        }
        for (index, speed) in report.decode.iter_mut().enumerate() {
            speed.tokens_per_second =
                median(rounds.iter().map(|round| round.decode[index].tokens_per_second));
        }
        report
    }
}

impl EnsembleReport {
    fn measure(name: &str, ensemble: &Ensemble, plan: &Plan) -> Result<Self, BenchError> {
        let members: Vec<String> = ensemble.members().iter().map(|m| m.name.clone()).collect();
        let speed = |&batch: &usize| -> Result<LockstepSpeed, BenchError> {
            Ok(LockstepSpeed::new(batch, &members, &lockstep(ensemble, batch, plan)?))
        };
        let lockstep = plan.batches.iter().map(speed).collect::<Result<_, _>>()?;
        let first = first_token(ensemble, plan)?;
        let [cold_ms, shared_ms] =
            [first.cold, first.shared].map(|time| 1000.0 * time.as_secs_f64());
        let first_token = FirstTokenTimes {
            prompt_tokens: first.prompt_tokens,
            cold_ms,
            shared_ms,
            ratio: shared_ms / cold_ms,
        };
        let gates = gate::measure(ensemble, plan)?;
        Ok(Self { name: name.to_owned(), members, lockstep, first_token, gates })
    }

    fn median(rounds: &[&Self]) -> Self {
        let mut report = rounds[0].clone();
        for (index, speed) in report.lockstep.iter_mut().enumerate() {
            let of = |figure: &dyn Fn(&LockstepSpeed) -> f64| {
                median(rounds.iter().map(|round| figure(&round.lockstep[index])))
            };
            speed.tokens_per_second = of(&|speed| speed.tokens_per_second);
            speed.step_ms = of(&|speed| speed.step_ms);
            for (at, part) in speed.parts.iter_mut().enumerate() {
                part.ms = of(&|speed| speed.parts[at].ms);
                part.percent = of(&|speed| speed.parts[at].percent);
            }
        }
        let first = &mut report.first_token;
        let of = |figure: &dyn Fn(&FirstTokenTimes) -> f64| {
            median(rounds.iter().map(|round| figure(&round.first_token)))
        };
        first.cold_ms = of(&|first| first.cold_ms);
        first.shared_ms = of(&|first| first.shared_ms);
        first.ratio = first.shared_ms / first.cold_ms;
        report.gates =
            gate::medians(&rounds.iter().map(|round| &round.gates[..]).collect::<Vec<_>>());
        report
    }
}

impl LockstepSpeed {
    fn new(batch: usize, members: &[String], measured: &Lockstep) -> Self {
        let Lockstep { steps, tokens, wall, times } = measured;
        let wall = wall.as_secs_f64();
        let forwards = members.iter().zip(&times.forward);
        let forwards = forwards.map(|(name, &time)| (format!("{name} forward"), time));
        let rest = [("fusion", times.mix), ("choice", times.choose), ("commitment", times.commit)];
        let part = |(name, seconds): (String, f64)| Part {
            name,
            ms: 1000.0 * seconds / *steps as f64,
            percent: 100.0 * seconds / wall,
        };
        let known = forwards.chain(rest.map(|(name, time)| (name.to_owned(), time)));
        let other = ("other".to_owned(), (wall - times.total().as_secs_f64()).max(0.0));
        let parts = known.map(|(name, time)| (name, time.as_secs_f64())).chain([other]);
        Self {
            batch,
            tokens_per_second: *tokens as f64 / wall,
            step_ms: 1000.0 * wall / *steps as f64,
            parts: parts.map(part).collect(),
        }
    }
}

/// The middle value, or the mean of the two in the middle.
///
/// # Panics
/// If there is none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ensemble::Times;

    #[test]
    fn a_median_is_the_middle_whatever_the_order() {
        assert_eq!(median([3.0, 1.0, 200.0]), 3.0);
        assert_eq!(median([4.0, 1.0, 2.0, 200.0]), 3.0);
        assert_eq!(median([7.0]), 7.0);
    }

    #[test]
    fn the_parts_of_a_step_make_up_the_step() {
        let ms = Duration::from_millis;
        let times =
            Times { forward: vec![ms(20), ms(60)], mix: ms(4), choose: ms(2), commit: ms(1) };
        let measured = Lockstep { steps: 2, tokens: 6, wall: ms(100), times };
        let speed = LockstepSpeed::new(3, &["a".to_owned(), "b".to_owned()], &measured);
        assert_eq!((speed.batch, speed.tokens_per_second, speed.step_ms), (3, 60.0, 50.0));
        let parts: Vec<(&str, f64)> =
            speed.parts.iter().map(|part| (part.name.as_str(), part.ms.round())).collect();
        let expected = [
            ("a forward", 10.0),
            ("b forward", 30.0),
            ("fusion", 2.0),
            ("choice", 1.0),
            ("commitment", 1.0),
            ("other", 7.0),
        ];
        assert_eq!(parts, expected);
        let percent: f64 = speed.parts.iter().map(|part| part.percent).sum();
        assert!((percent - 100.0).abs() < 1e-9, "{percent}");
    }

    #[test]
    fn rounds_are_joined_figure_by_figure() {
        let round = |prefill, decode| ModelReport {
            name: "a".to_owned(),
            cache_bytes_a_token: 4.0,
            prefill: vec![PrefillSpeed { tokens: 128, tokens_per_second: prefill }],
            decode: vec![DecodeSpeed { batch: 1, tokens_per_second: decode }],
        };
        let rounds = [vec![round(1.0, 30.0)], vec![round(2.0, 20.0)], vec![round(9.0, 10.0)]];
        assert_eq!(each(&rounds, ModelReport::median), [round(2.0, 20.0)]);
    }
}
