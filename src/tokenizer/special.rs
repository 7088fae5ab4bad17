//! The special tokens a template may name, and how user text is kept from naming them.
//!
//! Pure: text and ids.

use std::collections::HashSet;

use super::{
    SpecToken, TokenRole,
    chat::{Conversation, Message, Role, TemplateArgs, Tool, ToolCall},
};
use crate::vocab::TokenId;
use serde_json::Value;

/// Names of special tokens by their first byte, longest first.
#[derive(Debug)]
pub(super) struct Specials {
    by_first: Vec<Vec<(String, TokenId)>>,
    /// Those that stand for text when a model writes them.
    added: HashSet<TokenId>,
}

/// A part of a rendered template.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Segment<'a> {
    Text(&'a str),
    Special(TokenId),
}

impl Specials {
    /// Names of one character are left out, for nothing could be put inside to break them. The
    /// `lstrip` and `rstrip` marks of `tokenizer.json` are not known here: a template's whitespace
    /// stays.
    pub(super) fn new(tokens: &[SpecToken]) -> Self {
        let mut by_first: Vec<Vec<(String, TokenId)>> = vec![Vec::new(); 256];
        let mut added = HashSet::new();
        for (id, token) in (0..).map(TokenId).zip(tokens) {
            let named = matches!(token.role, TokenRole::Control | TokenRole::Added);
            if let (true, Ok(name)) = (named, str::from_utf8(&token.bytes))
                && name.chars().count() > 1
            {
                by_first[usize::from(token.bytes[0])].push((name.to_owned(), id));
                if token.role == TokenRole::Added {
                    added.insert(id);
                }
            }
        }
        for names in &mut by_first {
            names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        }
        Self { by_first, added }
    }

    pub(super) fn name(&self, id: TokenId) -> Option<&str> {
        let named = self.by_first.iter().flatten().find(|(_, named)| *named == id);
        named.map(|(name, _)| name.as_str())
    }

    /// Cuts a rendered template at the names of special tokens; of two that start together, the
    /// longer is meant.
    pub(super) fn segments<'a>(&self, text: &'a str) -> Vec<Segment<'a>> {
        let mut segments = Vec::new();
        let (mut start, mut position) = (0, 0);
        while position < text.len() {
            let rest = &text.as_bytes()[position..];
            match self.candidates(rest).find(|(name, _)| rest.starts_with(name.as_bytes())) {
                Some((name, id)) => {
                    if start < position {
                        segments.push(Segment::Text(&text[start..position]));
                    }
                    segments.push(Segment::Special(*id));
                    position += name.len();
                    start = position;
                }
                None => position += 1,
            }
        }
        if start < text.len() {
            segments.push(Segment::Text(&text[start..]));
        }
        segments
    }

    /// The messages with `marker` put into everything they say that reads as a special token's
    /// name, or could together with the template's text after it. What an assistant says may name
    /// tokens that stand for text, for it has written them itself (`</think>`), and templates look
    /// for them there.
    pub(super) fn broken(&self, messages: &[Message], marker: char) -> Vec<Message> {
        let text = |text: &String| self.broken_text(text, marker);
        let call = |call: &ToolCall| ToolCall {
            id: text(&call.id),
            name: text(&call.name),
            arguments: self.broken_json(&call.arguments, marker),
        };
        let message = |message: &Message| Message {
            role: message.role,
            content: match message.role {
                Role::Assistant => {
                    self.broken_by(&message.content, marker, |id| !self.added.contains(&id))
                }
                _ => text(&message.content),
            },
            tool_calls: message.tool_calls.iter().map(call).collect(),
            tool_call_id: message.tool_call_id.as_ref().map(text),
            name: message.name.as_ref().map(text),
        };
        messages.iter().map(message).collect()
    }

    /// The tools, as [`broken`](Self::broken) does it.
    pub(super) fn broken_tools(&self, tools: &[Tool], marker: char) -> Vec<Tool> {
        let tool = |tool: &Tool| Tool {
            name: self.broken_text(&tool.name, marker),
            description: tool.description.as_ref().map(|text| self.broken_text(text, marker)),
            parameters: tool.parameters.as_ref().map(|json| self.broken_json(json, marker)),
        };
        tools.iter().map(tool).collect()
    }

    /// The values of a template's switches, likewise; their names are the template's own.
    pub(super) fn broken_args(&self, args: &TemplateArgs, marker: char) -> TemplateArgs {
        let broken =
            |(name, value): (&String, &Value)| (name.clone(), self.broken_json(value, marker));
        args.iter().map(broken).collect()
    }

    fn broken_json(&self, json: &Value, marker: char) -> Value {
        match json {
            Value::String(text) => Value::String(self.broken_text(text, marker)),
            Value::Array(items) => {
                items.iter().map(|item| self.broken_json(item, marker)).collect()
            }
            Value::Object(fields) => fields
                .iter()
                .map(|(key, value)| {
                    (self.broken_text(key, marker), self.broken_json(value, marker))
                })
                .collect(),
            other => other.clone(),
        }
    }

    fn broken_text(&self, content: &str, marker: char) -> String {
        self.broken_by(content, marker, |_| true)
    }

    /// Breaks the names of those tokens that `breaks` says.
    fn broken_by(&self, content: &str, marker: char, breaks: impl Fn(TokenId) -> bool) -> String {
        let mut broken = String::with_capacity(content.len());
        for (position, c) in content.char_indices() {
            broken.push(c);
            let rest = &content.as_bytes()[position..];
            let names = |(name, id): &(String, TokenId)| {
                breaks(*id)
                    && (rest.starts_with(name.as_bytes()) || name.as_bytes().starts_with(rest))
            };
            if self.candidates(rest).any(names) {
                broken.push(marker);
            }
        }
        broken
    }

    fn candidates(&self, rest: &[u8]) -> impl Iterator<Item = &(String, TokenId)> {
        rest.first().into_iter().flat_map(|&first| &self.by_first[usize::from(first)])
    }
}

/// A character that occurs in none of the messages: one of Unicode's 32 noncharacters that are
/// free for internal use (U+FDD0 to U+FDEF), or, where a message has them all, a private one.
pub(super) fn marker(conversation: Conversation<'_>) -> char {
    let Conversation { messages, tools, args } = conversation;
    let optional = |text: &Option<String>, c: char| text.as_ref().is_some_and(|t| t.contains(c));
    let json = |value: &Value, c: char| value.to_string().contains(c);
    let call = |call: &ToolCall, c: char| {
        call.id.contains(c) || call.name.contains(c) || json(&call.arguments, c)
    };
    let message = |message: &Message, c: char| {
        message.content.contains(c)
            || message.tool_calls.iter().any(|said| call(said, c))
            || optional(&message.tool_call_id, c)
            || optional(&message.name, c)
    };
    let tool = |tool: &Tool, c: char| {
        tool.name.contains(c)
            || optional(&tool.description, c)
            || tool.parameters.as_ref().is_some_and(|schema| json(schema, c))
    };
    let unused = |&c: &char| {
        !messages.iter().any(|said| message(said, c))
            && !tools.iter().any(|known| tool(known, c))
            && !args.values().any(|value| json(value, c))
    };
    ('\u{FDD0}'..='\u{FDEF}')
        .chain('\u{100000}'..='\u{10FFFD}')
        .find(unused)
        .expect("no request is long enough to have every private character")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specials() -> Specials {
        Specials::new(&[
            SpecToken::new("<a>", TokenRole::Control),
            SpecToken::new("<a><b>", TokenRole::Added),
            SpecToken::new("<n>", TokenRole::Normal),
            SpecToken::new("x", TokenRole::Control),
        ])
    }

    #[test]
    fn a_template_is_cut_at_the_longest_names() {
        let segments = specials().segments("1<a><b><n>x<a>");
        let (one, rest) = (Segment::Text("1"), Segment::Text("<n>x"));
        let longest = Segment::Special(TokenId(1));
        assert_eq!(segments, [one, longest, rest, Segment::Special(TokenId(0))]);
    }

    #[test]
    fn names_in_user_text_are_broken_up() {
        let user = |content: &str| Message::new(Role::User, content);
        for content in ["<a>", "<a><b>", "<<a>", "ends in <", "ends in <a", "<a><b"] {
            let marker = marker(Conversation::new(&[user(content)]));
            let broken = &specials().broken(&[user(content)], marker)[0].content;
            assert_eq!(broken.replace(marker, ""), content);
            // The template goes on with whatever would complete the name.
            for after in ["", "a>", ">", "<b>", "b>"] {
                let text = format!("{broken}{after}");
                let cut = specials().segments(&text);
                let own = specials().segments(after);
                let count = |s: &[Segment<'_>]| {
                    s.iter().filter(|s| matches!(s, Segment::Special(_))).count()
                };
                assert_eq!(count(&cut), count(&own), "{text:?}");
            }
        }
    }

    #[test]
    fn an_assistant_may_have_written_added_tokens_but_no_control_tokens() {
        let message = |content: &str| Message::new(Role::Assistant, content);
        let specials = Specials::new(&[
            SpecToken::new("</think>", TokenRole::Added),
            SpecToken::new("<end>", TokenRole::Control),
        ]);
        let broken = specials.broken(&[message("</think>a<end>")], '|');
        assert_eq!(broken[0].content, "</think>a<|end>");
    }

    #[test]
    fn the_marker_is_a_character_the_messages_have_not() {
        let content: String = ('\u{FDD0}'..='\u{FDEF}').collect();
        let message = Message::new(Role::User, content);
        assert_eq!(marker(Conversation::new(&[message])), '\u{100000}');
    }
}
