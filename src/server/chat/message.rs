//! The messages of a request: roles, content in its several forms, calls and their results.

use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::{
    server::ApiError,
    tokenizer::chat::{Message, Role, ToolCall},
};

/// A message as clients send it. Fields we do not know are ignored.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(in crate::server) struct WireMessage {
    role: String,
    content: Option<Content>,
    name: Option<String>,
    tool_calls: Option<Vec<WireCall>>,
    tool_call_id: Option<String>,
    function_call: Option<Value>,
    audio: Option<Value>,
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a string or a list of content parts")]
pub(in crate::server) enum Content {
    Text(String),
    Parts(Vec<Value>),
}

/// A call that an assistant made, as this server sent it.
#[derive(Clone, Debug, Deserialize, ToSchema)]
struct WireCall {
    id: String,
    function: CalledFunction,
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
struct CalledFunction {
    name: String,
    #[serde(default)]
    arguments: String,
}

impl WireMessage {
    /// `at` is where the message stands in the request, for errors.
    pub(in crate::server) fn check(self, at: &str) -> Result<Message, ApiError> {
        let role = role(&self.role, at)?;
        self.refuse_what_is_not_served(at)?;
        let calls = self.tool_calls.unwrap_or_default();
        if !calls.is_empty() && role != Role::Assistant {
            let reason = "is only allowed in an assistant's message";
            return Err(ApiError::invalid(format!("{at}.tool_calls"), reason));
        }
        if role == Role::Tool && self.tool_call_id.is_none() {
            let reason = "is required: it says which call this answers";
            return Err(ApiError::invalid(format!("{at}.tool_call_id"), reason));
        }
        let content = match self.content {
            Some(content) => content.check(&format!("{at}.content"))?,
            // What an assistant's message has that only called tools, and the SDK sends it back.
            None if role == Role::Assistant => String::new(),
            None => {
                let param = format!("{at}.content");
                return Err(ApiError::invalid(param, "is required for this role"));
            }
        };
        Ok(Message {
            role,
            content,
            tool_calls: calls.into_iter().map(WireCall::check).collect(),
            tool_call_id: self.tool_call_id,
            name: self.name,
        })
    }

    fn refuse_what_is_not_served(&self, at: &str) -> Result<(), ApiError> {
        let present =
            [("function_call", self.function_call.is_some()), ("audio", self.audio.is_some())];
        match present.iter().find(|(_, present)| *present) {
            Some((name, _)) => {
                Err(ApiError::unsupported(format!("{at}.{name}"), "is not served; leave it out"))
            }
            None => Ok(()),
        }
    }
}

impl WireCall {
    fn check(self) -> ToolCall {
        let CalledFunction { name, arguments } = self.function;
        tool_call(self.id, name, &arguments)
    }
}

/// Arguments that are no JSON are what the model wrote, and go back to it as they are.
pub(in crate::server) fn tool_call(id: String, name: String, arguments: &str) -> ToolCall {
    let written = || {
        if arguments.trim().is_empty() { json!({}) } else { Value::String(arguments.to_owned()) }
    };
    ToolCall { id, name, arguments: serde_json::from_str(arguments).unwrap_or_else(|_| written()) }
}

pub(in crate::server) fn role(word: &str, at: &str) -> Result<Role, ApiError> {
    let param = || format!("{at}.role");
    match word {
        "system" | "developer" => Ok(Role::System),
        "user" => Ok(Role::User),
        "assistant" => Ok(Role::Assistant),
        "tool" => Ok(Role::Tool),
        "function" => {
            Err(ApiError::unsupported(param(), "is `function`, which is not served; use `tool`"))
        }
        role => Err(ApiError::invalid(
            param(),
            format!("is `{role}`; it must be system, developer, user, assistant or tool"),
        )),
    }
}

impl Content {
    pub(in crate::server) fn check(self, at: &str) -> Result<String, ApiError> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Parts(parts) => join(&parts, at),
        }
    }
}

/// The kinds of parts that are text: of a chat, and of the two sides of a response.
const TEXTS: &[&str] = &["text", "input_text", "output_text"];

fn join(parts: &[Value], at: &str) -> Result<String, ApiError> {
    let texts = parts.iter().enumerate().map(|(index, part)| {
        let at = format!("{at}[{index}]");
        match part.get("type").and_then(Value::as_str) {
            Some(kind) if TEXTS.contains(&kind) => match part.get("text").and_then(Value::as_str) {
                Some(text) => Ok(text),
                None => Err(ApiError::invalid(format!("{at}.text"), "must be a string")),
            },
            Some(other) => Err(ApiError::unsupported(
                format!("{at}.type"),
                format!("is `{other}`, but only `text` parts are served"),
            )),
            None => {
                Err(ApiError::invalid(format!("{at}.type"), "must be a string, such as `text`"))
            }
        }
    });
    texts.collect()
}
