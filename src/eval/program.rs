//! From what a model answers to the program that tests it.
//!
//! Pure: text in, text out.

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

/// How a model was asked, which decides what its text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// It went on with the prompt.
    Completion(&'a str),
    /// It answered in a conversation, in words and code.
    Chat(&'a str),
}

/// The program that runs to its end if the answer is right.
///
/// A completion is what follows the prompt, up to the first line that is no longer in the function:
/// one that begins at the margin, as HumanEval's own stop words have it (Chen and others, 2021,
/// section 2.2), but for closing brackets.
///
/// Of a conversation the code is the first block between fences that defines the function, or else
/// the first block, or else, without a fence, all of the text. Code that defines the function
/// stands after the prompt and takes its place, so that what the prompt imports and defines before
/// it is there; other code goes on with the prompt as its body.
pub fn program(problem: &Problem<'_>, answer: Answer<'_>) -> String {
    let Problem { prompt, tests, entry_point } = problem;
    let defines = format!("def {entry_point}(");
    let body = match answer {
        Answer::Completion(text) => body(text).to_owned(),
        Answer::Chat(text) => {
            let blocks = blocks(text);
            let defining = blocks.iter().find(|block| block.contains(&defines));
            let code = defining.or(blocks.first()).copied().unwrap_or(text);
            if code.contains(&defines) {
                // The prompt is whole without a body: what the function says of itself is one.
                format!("\n{code}")
            } else {
                indented(code)
            }
        }
    };
    format!("{prompt}{body}\n\n{tests}\n\ncheck({entry_point})\n")
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

/// What stands between lines that begin with three backticks; the last block may be open.
fn blocks(text: &str) -> Vec<&str> {
    let mut blocks = Vec::new();
    let mut begin = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let next = at + line.len();
        if line.trim_start().starts_with("```") {
            begin = match begin {
                Some(begin) => {
                    blocks.push(&text[begin..at]);
                    None
                }
                None => Some(next),
            };
        }
        at = next;
    }
    blocks.extend(begin.map(|begin| &text[begin..]).filter(|rest| !rest.trim().is_empty()));
    blocks
}

/// Code as a body: moved in where its first line stands at the margin.
fn indented(code: &str) -> String {
    let code = code.trim_matches('\n');
    if code.starts_with([' ', '\t']) {
        return code.to_owned();
    }
    let lines = code.lines().map(|line| match line {
        "" => String::new(),
        line => format!("    {line}"),
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBLEM: Problem<'_> = Problem {
        prompt: "import math\n\ndef area(r):\n    \"\"\" Of a circle. \"\"\"\n",
        tests: "def check(candidate):\n    assert candidate(0) == 0",
        entry_point: "area",
    };

    /// The program less what every one has.
    #[track_caller]
    fn between(answer: Answer<'_>) -> String {
        let program = program(&PROBLEM, answer);
        let rest = program.strip_prefix(PROBLEM.prompt).unwrap();
        let end = format!("\n\n{}\n\ncheck(area)\n", PROBLEM.tests);
        rest.strip_suffix(&end).unwrap_or_else(|| panic!("{program}")).to_owned()
    }

    #[test]
    fn a_completion_ends_where_the_function_does() {
        let text = "    x = [\n        r,\n]\n\n    return x\n\n# Test\nprint(area(1))\n    more";
        assert_eq!(
            between(Answer::Completion(text)),
            "    x = [\n        r,\n]\n\n    return x\n\n"
        );
        assert_eq!(between(Answer::Completion("    return 1")), "    return 1");
        // A model that does not repeat the prompt's last line break goes on in its line.
        assert_eq!(between(Answer::Completion("x\n  y\nz")), "x\n  y\n");
    }

    #[test]
    fn the_code_of_an_answer_is_the_block_that_defines_the_function() {
        let define = "def area(r):\n    return math.pi * r ** 2\n";
        for text in [
            format!("Sure:\n```python\n{define}```\nIt multiplies.\n```python\narea(1)\n```"),
            format!("First:\n```\npip install x\n```\nthen\n```py\n{define}```"),
            format!("Never closed:\n```python\n{define}"),
        ] {
            assert_eq!(between(Answer::Chat(&text)), format!("\n{define}"));
        }
        assert_eq!(between(Answer::Chat(define)), format!("\n{define}"));
    }

    #[test]
    fn an_answer_that_is_only_a_body_goes_on_with_the_prompt() {
        for text in
            ["```python\nif r:\n    return 1\n\nreturn 0\n```", "if r:\n    return 1\n\nreturn 0"]
        {
            let body = "    if r:\n        return 1\n\n    return 0";
            assert_eq!(between(Answer::Chat(text)), body);
        }
        assert_eq!(between(Answer::Chat("```\n    return 1\n```")), "    return 1");
    }

    #[test]
    fn another_functions_name_is_not_the_definition() {
        let text = "```python\ndef area_of(r):\n    return 1\n```";
        let body = "    def area_of(r):\n        return 1";
        assert_eq!(between(Answer::Chat(text)), body);
    }
}
