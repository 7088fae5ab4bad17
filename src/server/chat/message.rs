//! The messages of a request: roles, content in its several forms, calls and their results.

use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::{
    server::{
        ApiError,
        body::{Instead, StringOr},
        tools::check_kind,
    },
    tokenizer::chat::{Message, Role, ToolCall},
};

/// A message as clients send it.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(in crate::server) struct WireMessage {
    role: String,
    #[schema(inline)]
    content: Option<Content>,
    name: Option<String>,
    tool_calls: Option<Vec<WireCall>>,
    tool_call_id: Option<String>,
    function_call: Option<Value>,
    audio: Option<Value>,
}

pub(in crate::server) type Content = StringOr<Vec<WirePart>>;

impl Instead for Vec<WirePart> {
    const EXPECTED: &'static str = "a string or a list of content parts";
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(in crate::server) struct WirePart {
    #[serde(rename = "type")]
    kind: Option<String>,
    text: Option<String>,
}

/// A call that an assistant made, as this server sent it.
#[derive(Clone, Debug, Deserialize, ToSchema)]
struct WireCall {
    id: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    function: Option<CalledFunction>,
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
        let checked = calls.into_iter().enumerate();
        let checked = checked.map(|(index, call)| call.check(&format!("{at}.tool_calls[{index}]")));
        Ok(Message {
            role,
            content,
            tool_calls: checked.collect::<Result<_, _>>()?,
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
    fn check(self, at: &str) -> Result<ToolCall, ApiError> {
        check_kind(self.kind.as_deref(), at)?;
        let function = self.function.ok_or_else(|| ApiError::missing(format!("{at}.function")))?;
        let CalledFunction { name, arguments } = function;
        Ok(tool_call(self.id, name, &arguments))
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
            Self::String(text) => Ok(text),
            Self::Other(parts) => join(parts, at),
        }
    }
}

/// The kinds of parts that are text: of a chat, and of the two sides of a response.
const TEXTS: &[&str] = &["text", "input_text", "output_text"];

fn join(parts: Vec<WirePart>, at: &str) -> Result<String, ApiError> {
    let texts = parts.into_iter().enumerate().map(|(index, WirePart { kind, text })| {
        let at = format!("{at}[{index}]");
        match kind {
            Some(kind) if TEXTS.contains(&kind.as_str()) => {
                text.ok_or_else(|| ApiError::missing(format!("{at}.text")))
            }
            Some(other) => Err(ApiError::unsupported(
                format!("{at}.type"),
                format!("is `{other}`, but only `text` parts are served"),
            )),
            None => Err(ApiError::missing(format!("{at}.type"))),
        }
    });
    texts.collect()
}
