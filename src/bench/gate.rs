//! Speed over quality of the gate: what each threshold gains, and what it changes.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::{
    BenchError, Plan,
    measure::{step, text},
    median,
};
use crate::{
    ensemble::{Ensemble, FusionRequest, Sequence, Workspace},
    sampling::SamplingParams,
    vocab::UnionId,
};

/// An ensemble's greedy texts under one gate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GateSpeed {
    /// `None` runs all members at every step.
    pub gate: Option<f64>,
    /// Of one text at a time, the reading of the prompt not counted, but what the others have to
    /// read later.
    pub tokens_per_second: f64,
    /// The share of the steps that the primary decided alone.
    pub gate_rate: f64,
    /// How far the texts go along with those without a gate, as a share of their pieces: a low
    /// bound of the likeness, for one other piece can change all that follows.
    pub same: f64,
}

/// What is continued: one text is too few to tell.
const TEXTS: usize = 4;

/// Measures the ensemble without a gate and with each of the plan's.
pub(super) fn measure(ensemble: &Ensemble, plan: &Plan) -> Result<Vec<GateSpeed>, BenchError> {
    if plan.gates.is_empty() {
        return Ok(Vec::new());
    }
    let full = Run::new(ensemble, None, plan)?;
    let mut speeds = vec![full.speed(None, &full.texts)];
    for &gate in &plan.gates {
        speeds.push(Run::new(ensemble, Some(gate), plan)?.speed(Some(gate), &full.texts));
    }
    Ok(speeds)
}

/// The figures of several rounds as one.
pub(super) fn medians(rounds: &[&[GateSpeed]]) -> Vec<GateSpeed> {
    let mut speeds = rounds[0].to_vec();
    for (index, speed) in speeds.iter_mut().enumerate() {
        // The texts are the same in all rounds.
        speed.tokens_per_second = median(rounds.iter().map(|round| round[index].tokens_per_second));
    }
    speeds
}

struct Run {
    texts: Vec<Vec<UnionId>>,
    steps: usize,
    gated: usize,
    wall: Duration,
}

impl Run {
    fn new(ensemble: &Ensemble, gate: Option<f64>, plan: &Plan) -> Result<Self, BenchError> {
        // Above 1 it turns off what the configuration sets.
        let request = FusionRequest { gate: Some(gate.unwrap_or(2.0)), ..FusionRequest::default() };
        let fusion = ensemble.fuse(&request).map_err(BenchError::Fusion)?;
        let mut run = Self { texts: Vec::new(), steps: 0, gated: 0, wall: Duration::ZERO };
        for number in 1..=TEXTS {
            let prompt = text(ensemble, &format!("{number}. "), plan.prompt);
            let prompts = ensemble.text_prompts(&prompt, fusion.clone());
            let greedy = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
            let mut sequence = Sequence::new(ensemble, prompts, greedy, None)?;
            let mut work = Workspace::new(ensemble, plan.prefill_chunk, 0);
            let mut ids = vec![step(ensemble, &mut sequence, &mut work)?];
            let (before, start) = (sequence.gated().unwrap_or(0), Instant::now());
            while ids.len() <= plan.steps
                && ids.last() != Some(&ensemble.union().end())
                && !sequence.is_full()
            {
                ids.push(step(ensemble, &mut sequence, &mut work)?);
            }
            run.wall += start.elapsed();
            run.steps += ids.len() - 1;
            run.gated += sequence.gated().unwrap_or(0) - before;
            run.texts.push(ids);
        }
        Ok(run)
    }

    fn speed(&self, gate: Option<f64>, full: &[Vec<UnionId>]) -> GateSpeed {
        let alike = |(a, b): (&Vec<UnionId>, &Vec<UnionId>)| {
            a.iter().zip(b).take_while(|(a, b)| a == b).count()
        };
        let pieces: usize = full.iter().map(Vec::len).sum();
        GateSpeed {
            gate,
            tokens_per_second: self.steps as f64 / self.wall.as_secs_f64(),
            gate_rate: self.gated as f64 / self.steps.max(1) as f64,
            same: full.iter().zip(&self.texts).map(alike).sum::<usize>() as f64 / pieces as f64,
        }
    }
}
