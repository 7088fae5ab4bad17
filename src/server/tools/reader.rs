//! A model's text, piece by piece, into what the client is sent: text, and calls of functions.
//!
//! Calls that nobody forced are recognised in the forms that the templates teach: JSON between
//! `<tool_call>` and `</tool_call>` (Hermes, Qwen), or a text that is one JSON object with the name
//! of a function and its `arguments` or `parameters` (Llama 3). What only looks like a call stays
//! text.

use serde_json::Value;
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
    /// Text that is not understood yet.
    held: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before anything but white space.
    Start,
    Text,
    /// After the opening tag.
    Tagged,
    /// After the closing tag, before anything but white space.
    After,
    /// In a text that begins with a brace, which its end decides on.
    Braced,
}

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

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
                if begun.is_empty() || (OPEN.starts_with(begun) && begun != OPEN) {
                    return false;
                }
                if self.place == Place::After {
                    self.held = begun.to_owned();
                } else if begun.starts_with('{') {
                    self.place = Place::Braced;
                    return true;
                }
                self.place = Place::Text;
                true
            }
            Place::Text => match self.held.find(OPEN) {
                Some(at) => {
                    let before = self.held[..at].trim_end().to_owned();
                    parts.push(Part::Text(before));
                    self.held.drain(..at + OPEN.len());
                    self.place = Place::Tagged;
                    true
                }
                None => {
                    let certain = self.held.len() - possible_call(&self.held);
                    parts.push(Part::Text(self.held.drain(..certain).collect()));
                    false
                }
            },
            Place::Tagged => {
                let Some(at) = self.held.find(CLOSE) else { return false };
                let body: String = self.held.drain(..at + CLOSE.len()).collect();
                match self.call(&body[..at]) {
                    Some(call) => parts.extend(call),
                    None => parts.push(Part::Text(format!("{OPEN}{body}"))),
                }
                self.place = Place::After;
                true
            }
            Place::Braced => false,
        }
    }

    fn finish(&mut self) -> Vec<Part> {
        let held = std::mem::take(&mut self.held);
        let text = |text: String| vec![Part::Text(text)];
        match self.place {
            Place::Start | Place::Text => text(held),
            Place::After => text(held.trim_start().to_owned()),
            Place::Tagged => self.call(&held).unwrap_or_else(|| text(format!("{OPEN}{held}"))),
            Place::Braced => self.call(&held).unwrap_or_else(|| text(held)),
        }
    }

    /// The call that this JSON is; `None` if it is none of a function that there is.
    fn call(&mut self, json: &str) -> Option<Vec<Part>> {
        let call: Value = serde_json::from_str(json.trim()).ok()?;
        let name = call.get("name")?.as_str()?;
        if !self.names.iter().any(|known| known == name) {
            return None;
        }
        let arguments = match call.get("arguments").or_else(|| call.get("parameters"))? {
            Value::String(written) => written.clone(),
            value => value.to_string(),
        };
        if self.left == 0 {
            return Some(Vec::new());
        }
        self.left -= 1;
        let begun = Part::Call { id: call_id(), name: name.to_owned() };
        Some(vec![begun, Part::Arguments(arguments)])
    }
}

/// The length of the end that may yet be the white space before an opening tag, and its begin.
fn possible_call(text: &str) -> usize {
    let tag = (1..OPEN.len()).rev().find(|&length| text.ends_with(&OPEN[..length])).unwrap_or(0);
    text.len() - text[..text.len() - tag].trim_end().len()
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
        Toolbox { calls: calls(tools.clone()), tools }
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
    fn what_only_looks_like_a_call_stays_text() {
        let free = toolbox(|_| Calls::Free { many: true });
        for text in [
            "a < b, <tool, <tool_cal",
            "  two  spaces \n",
            "<tool_call>no JSON</tool_call>",
            r#"<tool_call>{"name": "rm", "arguments": {}}</tool_call>"#,
            "<tool_call>cut",
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
        let never = Toolbox { tools: Vec::new(), calls: Calls::Never };
        let now = r#"<tool_call>{"name": "now", "arguments": {}}</tool_call>"#;
        assert_eq!(read(&never, now), now);
    }
}
