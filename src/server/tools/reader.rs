//! A model's text, piece by piece, into what the client is sent: text, and calls of functions.
//!
//! Calls that nobody forced are recognised in the forms that the templates teach, each as JSON with
//! the name of a function and its `arguments` or `parameters`: between `<tool_call>` and
//! `</tool_call>` (Hermes, Qwen); as a list after `[TOOL_CALLS]`, or each after one as the name,
//! `[ARGS]` and the arguments, to the end of the text (Mistral); as objects with `;` between them, after `<|python_tag|>` or as the whole text (Llama 3). What
//! only looks like a call stays text, to the letter.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Calls, Toolbox};

/// What a piece of text turns out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) enum Part {
    Text(String),
    /// A call begins.
    Call {
        id: String,
        name: String,
    },
    /// More of the arguments of the call that began last.
    Arguments(String),
}

/// Reads one choice's text.
pub(in crate::server) struct Reader {
    form: Form,
    calls: usize,
}

enum Form {
    Text,
    /// The whole text is the arguments of this function.
    Named(String),
    /// The whole text is one call.
    Whole(FreeReader),
    Free(FreeReader),
}

impl Reader {
    pub(in crate::server) fn new(toolbox: &Toolbox) -> Self {
        let names = || toolbox.tools.iter().map(|tool| tool.name.clone()).collect();
        let form = match &toolbox.calls {
            Calls::Never => Form::Text,
            Calls::Named(tool) => Form::Named(tool.name.clone()),
            Calls::OneOf(_) => Form::Whole(FreeReader::new(names(), 1)),
            Calls::Free { many } => {
                Form::Free(FreeReader::new(names(), if *many { usize::MAX } else { 1 }))
            }
        };
        Self { form, calls: 0 }
    }

    /// How many calls have begun.
    pub(in crate::server) fn calls(&self) -> usize {
        self.calls
    }

    pub(in crate::server) fn push(&mut self, text: &str) -> Vec<Part> {
        let mut parts = match &mut self.form {
            Form::Text => vec![Part::Text(text.to_owned())],
            Form::Named(name) => {
                let arguments = Part::Arguments(text.to_owned());
                if self.calls == 0 {
                    vec![Part::Call { id: call_id(), name: name.clone() }, arguments]
                } else {
                    vec![arguments]
                }
            }
            Form::Whole(reader) | Form::Free(reader) => reader.push(text),
        };
        parts.retain(Part::says_something);
        self.count(parts)
    }

    /// The rest, when nothing follows.
    pub(in crate::server) fn finish(&mut self) -> Vec<Part> {
        let mut parts = match &mut self.form {
            Form::Text | Form::Named(_) => Vec::new(),
            Form::Whole(reader) | Form::Free(reader) => reader.finish(),
        };
        parts.retain(Part::says_something);
        self.count(parts)
    }

    fn count(&mut self, parts: Vec<Part>) -> Vec<Part> {
        self.calls += parts.iter().filter(|part| matches!(part, Part::Call { .. })).count();
        parts
    }
}

impl Part {
    fn says_something(&self) -> bool {
        !matches!(self, Self::Text(text) | Self::Arguments(text) if text.is_empty())
    }
}

/// Finds calls in a text that may have some.
struct FreeReader {
    names: Vec<String>,
    /// Calls that may still come.
    left: usize,
    place: Place,
    /// Text that is not understood yet; of a call, the mark it begins with and the white space
    /// before.
    held: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before anything but white space.
    Start,
    Text,
    /// After an opening tag.
    Tagged,
    /// After a closing tag, before anything but white space.
    After,
    /// In what the text's end decides on: a text that begins with a brace, or has a mark that is
    /// closed by nothing.
    Last,
}

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";
/// What calls begin with.
const MARKS: [&str; 3] = [OPEN, MISTRAL, "<|python_tag|>"];
const MISTRAL: &str = "[TOOL_CALLS]";
const CALL_ID: &str = "[CALL_ID]";
const ARGUMENTS: &str = "[ARGS]";

impl FreeReader {
    fn new(names: Vec<String>, left: usize) -> Self {
        Self { names, left, place: Place::Start, held: String::new() }
    }

    fn push(&mut self, text: &str) -> Vec<Part> {
        self.held.push_str(text);
        let mut parts = Vec::new();
        while self.advance(&mut parts) {}
        parts
    }

    /// One step of understanding; false when it takes more text.
    fn advance(&mut self, parts: &mut Vec<Part>) -> bool {
        match self.place {
            Place::Start | Place::After => {
                let begun = self.held.trim_start();
                let may_be = |mark: &&str| mark.starts_with(begun) && begun.len() < mark.len();
                if MARKS.iter().any(may_be) {
                    return false;
                }
                let braced = self.place == Place::Start && begun.starts_with('{');
                if self.place == Place::After {
                    self.held = begun.to_owned();
                }
                self.place = if braced { Place::Last } else { Place::Text };
                true
            }
            Place::Text => {
                let found = MARKS.iter().filter_map(|mark| Some((self.held.find(mark)?, *mark)));
                let Some((at, mark)) = found.min() else {
                    let certain = self.held.len() - possible_call(&self.held);
                    parts.push(Part::Text(self.held.drain(..certain).collect()));
                    return false;
                };
                let end = self.held[..at].trim_end().len();
                parts.push(Part::Text(self.held.drain(..end).collect()));
                self.place = if mark == OPEN { Place::Tagged } else { Place::Last };
                true
            }
            Place::Tagged => {
                let Some(at) = self.held.find(CLOSE) else { return false };
                let rest = self.held.split_off(at + CLOSE.len());
                let tagged = std::mem::replace(&mut self.held, rest);
                let calls = self.calls(&tagged[..at]);
                self.place = if calls.is_some() { Place::After } else { Place::Text };
                parts.extend(calls.unwrap_or_else(|| vec![Part::Text(tagged)]));
                true
            }
            Place::Last => false,
        }
    }

    fn finish(&mut self) -> Vec<Part> {
        let held = std::mem::take(&mut self.held);
        let calls = match self.place {
            Place::Start | Place::Text => None,
            Place::After => return vec![Part::Text(held.trim_start().to_owned())],
            Place::Tagged | Place::Last => self.calls(&held),
        };
        calls.unwrap_or_else(|| vec![Part::Text(held)])
    }

    /// The calls that this is, after a mark or without one; `None` if any part of it is none of a
    /// function that there is.
    fn calls(&mut self, written: &str) -> Option<Vec<Part>> {
        let written = written.trim();
        let found = named_calls(written).or_else(|| listed_calls(written))?;
        let calls: Option<Vec<_>> = found.iter().map(|call| self.call(call)).collect();
        let mut calls = calls.filter(|calls| !calls.is_empty())?;
        calls.truncate(self.left);
        self.left -= calls.len();
        Some(calls.into_iter().flatten().collect())
    }

    /// What is told of a call; `None` if it is none.
    fn call(&self, call: &Value) -> Option<[Part; 2]> {
        let name = call.get("name")?.as_str()?;
        if !self.names.iter().any(|known| known == name) {
            return None;
        }
        let arguments = match call.get("arguments").or_else(|| call.get("parameters"))? {
            Value::String(written) => written.clone(),
            value => value.to_string(),
        };
        let begun = Part::Call { id: call_id(), name: name.to_owned() };
        Some([begun, Part::Arguments(arguments)])
    }
}

/// Objects and lists of them, as most families write calls.
fn listed_calls(written: &str) -> Option<Vec<Value>> {
    let mut rest = MARKS.iter().find_map(|mark| written.strip_prefix(mark)).unwrap_or(written);
    let mut found = Vec::new();
    while !rest.is_empty() {
        match first_value(&mut rest)? {
            Value::Array(calls) => found.extend(calls),
            call => found.push(call),
        }
        rest = rest.strip_prefix(';').unwrap_or(rest).trim_start();
    }
    Some(found)
}

/// As Mistral's later models write each: `[TOOL_CALLS]name[ARGS]{...}`, perhaps with
/// `[CALL_ID]id` after the name.
fn named_calls(written: &str) -> Option<Vec<Value>> {
    let mut found = Vec::new();
    let mut rest = written;
    while !rest.is_empty() {
        let (name, arguments) = rest.strip_prefix(MISTRAL)?.split_once(ARGUMENTS)?;
        let name = name.split_once(CALL_ID).map_or(name, |(name, _)| name).trim();
        rest = arguments;
        found.push(json!({ "name": name, "arguments": first_value(&mut rest)? }));
    }
    Some(found)
}

/// The JSON that a text begins with, which is left without it and the white space after.
fn first_value(text: &mut &str) -> Option<Value> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let value = values.next()?.ok()?;
    *text = text[values.byte_offset()..].trim_start();
    Some(value)
}

/// The length of the end that may yet be the white space before a mark, and its begin.
fn possible_call(text: &str) -> usize {
    let begins = |mark: &&str| {
        (1..mark.len()).rev().find(|&length| text.ends_with(&mark[..length])).unwrap_or(0)
    };
    let mark = MARKS.iter().map(begins).max().unwrap_or(0);
    text.len() - text[..text.len() - mark].trim_end().len()
}

fn call_id() -> String {
    format!("call_{}", Uuid::new_v4().simple())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::chat::Tool;

    fn toolbox(calls: impl Fn(Vec<Tool>) -> Calls) -> Toolbox {
        let tool = |name: &str| Tool { name: name.to_owned(), description: None, parameters: None };
        let tools = vec![tool("add"), tool("now")];
        Toolbox { calls: calls(tools.clone()), tools, lax: Vec::new() }
    }

    /// Texts as they are, calls as `[name arguments]`; whatever way the text is cut.
    fn read(toolbox: &Toolbox, text: &str) -> String {
        let shown = |cut: &dyn Fn(usize) -> bool| {
            let mut reader = Reader::new(toolbox);
            let (mut parts, mut piece) = (Vec::new(), String::new());
            for (index, c) in text.chars().enumerate() {
                piece.push(c);
                if cut(index) {
                    parts.extend(reader.push(&std::mem::take(&mut piece)));
                }
            }
            parts.extend(reader.push(&piece));
            parts.extend(reader.finish());
            let begun = parts.iter().filter(|part| matches!(part, Part::Call { .. })).count();
            assert_eq!(reader.calls(), begun);
            parts.iter().fold(String::new(), |shown, part| match part {
                Part::Text(text) => shown + text,
                Part::Call { id, name } => {
                    assert!(id.starts_with("call_"));
                    format!("{shown}[{name}]")
                }
                Part::Arguments(text) => shown + text,
            })
        };
        let whole = shown(&|_| false);
        assert_eq!(shown(&|_| true), whole, "letter by letter");
        assert_eq!(shown(&|index| index % 3 == 1), whole, "three by three");
        whole
    }

    #[test]
    fn calls_between_tags_are_read_and_the_rest_is_text() {
        let free = toolbox(|_| Calls::Free { many: true });
        let add = r#"<tool_call>
{"name": "add", "arguments": {"b": 1, "a": "x"}}
</tool_call>"#;
        let now = r#"<tool_call>{"name": "now", "arguments": {}}</tool_call>"#;
        for (text, expected) in [
            (add.to_owned(), r#"[add]{"b":1,"a":"x"}"#),
            (format!("Let me see.\n\n{add}\n{now}\n"), r#"Let me see.[add]{"b":1,"a":"x"}[now]{}"#),
            (format!("{now} Done."), "[now]{}Done."),
            (now.trim_end_matches("</tool_call>").to_owned(), "[now]{}"),
        ] {
            assert_eq!(read(&free, &text), expected, "{text}");
        }
    }

    #[test]
    fn an_object_that_is_the_whole_text_is_a_call_if_it_names_a_function() {
        let free = toolbox(|_| Calls::Free { many: true });
        let call = r#" {"name": "add", "parameters": {"a": 1}}"#;
        assert_eq!(read(&free, call), r#"[add]{"a":1}"#);
        for text in [r#"{"name": "Ann", "arguments": {}}"#, "{ not JSON", r#"{"a": 1} and more"#] {
            assert_eq!(read(&free, text), text);
        }
    }

    #[test]
    fn every_familys_form_is_read_whatever_stands_before() {
        let free = toolbox(|_| Calls::Free { many: true });
        for (text, expected) in [
            // Llama 3.
            (r#"<|python_tag|>{"name": "now", "parameters": {}}"#, "[now]{}"),
            (
                r#"{"name": "add", "parameters": {"a": 1}}; {"name": "now", "parameters": {}}"#,
                r#"[add]{"a":1}[now]{}"#,
            ),
            // Mistral; its calls may have names of their own.
            (
                r#"[TOOL_CALLS] [{"name": "add", "arguments": {"a": "]"}, "id": "123456789"}]"#,
                r#"[add]{"a":"]"}"#,
            ),
            (
                r#"[TOOL_CALLS][{"name": "add", "arguments": {}}, {"name": "now", "arguments": {}}]"#,
                "[add]{}[now]{}",
            ),
            // Its later models.
            (
                r#"[TOOL_CALLS]add[ARGS]{"a": "[ARGS]"}[TOOL_CALLS]now[CALL_ID]123456789[ARGS]{}"#,
                r#"[add]{"a":"[ARGS]"}[now]{}"#,
            ),
        ] {
            assert_eq!(read(&free, text), expected, "{text}");
            if !text.starts_with('{') {
                assert_eq!(read(&free, &format!("So:\n{text}\n")), format!("So:{expected}"));
            }
        }
    }

    #[test]
    fn what_only_looks_like_a_call_stays_text() {
        let free = toolbox(|_| Calls::Free { many: true });
        for text in [
            "a < b, <tool, <tool_cal",
            "  two  spaces \n",
            "<tool_call>no JSON</tool_call>",
            r#"<tool_call>{"name": "rm", "arguments": {}}</tool_call>"#,
            "<tool_call>cut",
            " \n <tool_call>{}</tool_call> \n so",
            "[TOOL_CALLS]",
            "[TOOL_CALLS][]",
            "[TOOL_CALLS]rm[ARGS]{}",
            "[TOOL_CALLS]now[ARGS]not JSON",
            "[TOOL_CALLS]now[ARGS]{}[TOOL_CALLS]so",
            "See [TOOL_CALLS] [1] for [TOOL",
            r#"[TOOL_CALLS] [{"name": "add", "arguments": {}}, {"name": "rm", "arguments": {}}]"#,
            "The tag <|python_tag|> opens code: <|python_tag|>print(1)",
            r#"{"name": "add", "parameters": {}} and more"#,
            "",
        ] {
            assert_eq!(read(&free, text), text);
        }
    }

    #[test]
    fn where_only_one_call_is_allowed_the_others_are_dropped() {
        let one = toolbox(|_| Calls::Free { many: false });
        let now = r#"<tool_call>{"name": "now", "arguments": {}}</tool_call>"#;
        assert_eq!(read(&one, &format!("{now}{now}")), "[now]{}");
        let list =
            r#"[TOOL_CALLS][{"name": "now", "arguments": {}}, {"name": "add", "arguments": {}}]"#;
        assert_eq!(read(&one, list), "[now]{}");
    }

    #[test]
    fn a_named_functions_arguments_are_the_text_as_it_comes() {
        let named = toolbox(|tools| Calls::Named(tools[0].clone()));
        assert_eq!(read(&named, r#"{"a": 1}"#), r#"[add]{"a": 1}"#);
        let mut reader = Reader::new(&named);
        assert_eq!(reader.push(r#"{"a"#).len(), 2);
        assert_eq!(reader.push("\":"), [Part::Arguments("\":".to_owned())]);
    }

    #[test]
    fn one_of_several_functions_is_read_from_the_whole_text() {
        let one_of = toolbox(Calls::OneOf);
        assert_eq!(read(&one_of, r#"{"name": "now", "arguments": {}}"#), "[now]{}");
        assert_eq!(read(&one_of, r#"{"name": "no"#), r#"{"name": "no"#);
    }

    #[test]
    fn without_tools_everything_is_text() {
        let never = Toolbox { tools: Vec::new(), calls: Calls::Never, lax: Vec::new() };
        let now = r#"<tool_call>{"name": "now", "arguments": {}}</tool_call>"#;
        assert_eq!(read(&never, now), now);
    }
}
