//! A Python function that passes its tests, which run in the sandbox.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Outcome, TaskError, exact::greedy};
use crate::{
    engine::Prompt,
    eval::{
        System,
        ask::{Asker, Writing},
        program::{Answer, Problem, program},
        sandbox::{Limits, Outcome as Ended, Sandbox},
        stats::Part,
    },
};

/// Where a function is over: HumanEval's own words (Chen and others, 2021, section 2.2).
const STOP: [&str; 5] = ["\nclass", "\ndef", "\n#", "\nif", "\nprint"];

/// The prompt is a program to go on with, as a text: no template stands around it.
pub(super) async fn solve(
    asker: &Asker,
    system: &System,
    problem: Problem<'_>,
    (sandbox, max_tokens): (&Sandbox, usize),
) -> Result<Outcome, TaskError> {
    let writing = Writing {
        prompt: Prompt::Text(problem.prompt.to_owned()),
        max_tokens,
        stop: STOP.map(str::to_owned).into(),
        constraint: None,
        sampling: greedy(),
    };
    let written = asker.write(system, writing).await?;
    let program = program(&problem, Answer::Completion(&written.text));
    let sandbox = sandbox.clone();
    let run = move || sandbox.run(&program, &Limits::default());
    let ended = tokio::task::spawn_blocking(run).await.expect("the sandbox does not panic");
    let ended = ended.map_err(|error| TaskError::Sandbox { reason: error.to_string() })?;
    let said = match &ended {
        Ended::Passed => "passed",
        Ended::Failed(said) => said,
        Ended::TimedOut => "out of time",
    };
    Ok(Outcome {
        prompt: problem.prompt.to_owned(),
        scores: BTreeMap::from([("passes", Part::right(ended == Ended::Passed))]),
        tokens: written.usage.completion_tokens,
        prompt_tokens: written.usage.prompt_tokens,
        gated: written.usage.gated,
        detail: json!({ "program": said }),
        output: written.text,
    })
}
