//! Chat messages: what every member's template is given.

use std::collections::BTreeMap;

use serde_json::Value;

/// Who says a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    System,
    User,
    Assistant,
    /// The result of a call, from the caller.
    Tool,
}

/// One turn of a conversation, as every member sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub role: Role,
    pub content: String,
    /// The calls an assistant made; empty for the other roles.
    pub tool_calls: Vec<ToolCall>,
    /// Which call a tool's message answers.
    pub tool_call_id: Option<String>,
    /// The tool's or the speaker's name, for the templates that show it.
    pub name: Option<String>,
}

/// A call that an assistant made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    /// An object of arguments; anything else only if that is what the model wrote.
    pub arguments: Value,
}

/// A function that the assistant may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    pub name: String,
    pub description: Option<String>,
    /// The JSON schema of the arguments; `None` for a function without any.
    pub parameters: Option<Value>,
}

/// Values for a template's own switches, such as Qwen3's `enable_thinking`.
pub type TemplateArgs = BTreeMap<String, Value>;

/// What templates know everything else by.
const TAKEN: [&str; 5] = ["messages", "tools", "add_generation_prompt", "bos_token", "eos_token"];

/// The name in `args` that no switch may have, if one has it.
pub fn taken(args: &TemplateArgs) -> Option<&'static str> {
    TAKEN.into_iter().find(|name| args.contains_key(*name))
}

/// All that a template is given.
#[derive(Clone, Copy, Debug)]
pub struct Conversation<'a> {
    pub messages: &'a [Message],
    /// Functions that the assistant may call. A template that does not know them gets a system
    /// message and text instead.
    pub tools: &'a [Tool],
    /// A switch that the template does not know does nothing; one with a [`taken`] name is not
    /// seen.
    pub args: &'a TemplateArgs,
}

impl<'a> Conversation<'a> {
    /// Without tools and switches.
    pub fn new(messages: &'a [Message]) -> Self {
        static NONE: TemplateArgs = TemplateArgs::new();
        Self { messages, tools: &[], args: &NONE }
    }
}

impl Message {
    /// A message without calls.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
            tool_calls: Vec::new(),
            tool_call_id: None,
            name: None,
        }
    }
}

impl Role {
    /// The role's name in templates.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}
