//! A Python function that passes its tests, which run in the sandbox.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Outcome, TaskError, exact::greedy};
use crate::{
    engine::Prompt,
    eval::{
        System,
        ask::{Asker, Writing},
        sandbox::{Limits, Outcome as Ended, Sandbox},
        stats::Part,
    },
};

/// A function that is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem<'a> {
    /// The beginning of the program, up to the function's body: its signature and what it says of
    /// itself.
    pub prompt: &'a str,
    /// A text that defines `check(candidate)`.
    pub tests: &'a str,
    /// The function's name.
    pub entry_point: &'a str,
}

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
    let program = program(&problem, &written.text);
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

/// The program that runs to its end if what a model went on with is right: that, up to the first
/// line that is no longer in the function, one that begins at the margin, as HumanEval's own stop
/// words have it (Chen and others, 2021, section 2.2), but for closing brackets.
pub fn program(problem: &Problem<'_>, completion: &str) -> String {
    let Problem { prompt, tests, entry_point } = problem;
    format!("{prompt}{}\n\n{tests}\n\ncheck({entry_point})\n", body(completion))
}

/// The lines up to the first that begins at the margin.
fn body(text: &str) -> &str {
    let mut end = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let at_margin = line.starts_with(|c: char| !c.is_whitespace() && !")]}".contains(c));
        // The first line goes on with the prompt's last.
        if at_margin && number > 0 {
            break;
        }
        end += line.len();
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completion_ends_where_the_function_does() {
        let problem = Problem {
            prompt: "import math\n\ndef area(r):\n    \"\"\" Of a circle. \"\"\"\n",
            tests: "def check(candidate):\n    assert candidate(0) == 0",
            entry_point: "area",
        };
        let end = format!("\n\n{}\n\ncheck(area)\n", problem.tests);
        let brackets = "    x = [\n        r,\n]\n\n    return x\n\n";
        for (completion, taken) in [
            (&*format!("{brackets}# Test\nprint(area(1))\n    more"), brackets),
            ("    return 1", "    return 1"),
            // A model that does not repeat the prompt's last line break goes on in its line.
            ("x\n  y\nz", "x\n  y\n"),
        ] {
            let expected = format!("{}{taken}{end}", problem.prompt);
            assert_eq!(program(&problem, completion), expected);
        }
    }
}
