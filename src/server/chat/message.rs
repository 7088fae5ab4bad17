//! The messages of a request: roles, and content in its several forms.

use serde::Deserialize;
use serde_json::Value;

use crate::{
    server::ApiError,
    tokenizer::chat::{Message, Role},
};

/// A message as clients send it. Its `name` is read by no chat template we know and is
/// therefore ignored, like fields we do not know.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct WireMessage {
    role: String,
    content: Option<Content>,
    tool_calls: Option<Vec<Value>>,
    function_call: Option<Value>,
    audio: Option<Value>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of content parts")]
enum Content {
    Text(String),
    Parts(Vec<Value>),
}

impl WireMessage {
    /// `at` is where the message stands in the request, for errors.
    pub(super) fn check(self, at: &str) -> Result<Message, ApiError> {
        let role = self.role(at)?;
        self.refuse_calls(at)?;
        let content = match self.content {
            Some(Content::Text(text)) => text,
            Some(Content::Parts(parts)) => join(&parts, at)?,
            // What an assistant's message has that only called tools, and the SDK sends it back.
            None if role == Role::Assistant => String::new(),
            None => {
                let param = format!("{at}.content");
                return Err(ApiError::invalid(param, "is required for this role"));
            }
        };
        Ok(Message::new(role, content))
    }

    fn role(&self, at: &str) -> Result<Role, ApiError> {
        let param = || format!("{at}.role");
        match self.role.as_str() {
            "system" | "developer" => Ok(Role::System),
            "user" => Ok(Role::User),
            "assistant" => Ok(Role::Assistant),
            role @ ("tool" | "function") => Err(ApiError::unsupported(
                param(),
                format!("is `{role}`, but this server does not call tools"),
            )),
            role => Err(ApiError::invalid(
                param(),
                format!("is `{role}`; it must be system, developer, user or assistant"),
            )),
        }
    }

    fn refuse_calls(&self, at: &str) -> Result<(), ApiError> {
        let present = [
            ("tool_calls", self.tool_calls.as_ref().is_some_and(|calls| !calls.is_empty())),
            ("function_call", self.function_call.is_some()),
            ("audio", self.audio.is_some()),
        ];
        match present.iter().find(|(_, present)| *present) {
            Some((name, _)) => {
                Err(ApiError::unsupported(format!("{at}.{name}"), "is not served; leave it out"))
            }
            None => Ok(()),
        }
    }
}

fn join(parts: &[Value], at: &str) -> Result<String, ApiError> {
    let texts = parts.iter().enumerate().map(|(index, part)| {
        let at = format!("{at}.content[{index}]");
        match part.get("type").and_then(Value::as_str) {
            Some("text") => match part.get("text").and_then(Value::as_str) {
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
