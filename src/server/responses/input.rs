//! `input`: a text, or items of a conversation.

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    server::{
        ApiError,
        body::from_value,
        chat::{Content, role, tool_call},
    },
    tokenizer::chat::{Message, Role},
};

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a string or a list of items")]
pub(super) enum Input {
    Text(String),
    Items(Vec<Value>),
}

#[derive(Clone, Debug, Deserialize)]
struct WireMessage {
    role: String,
    content: Content,
}

#[derive(Clone, Debug, Deserialize)]
struct WireCall {
    call_id: String,
    name: String,
    #[serde(default)]
    arguments: String,
}

#[derive(Clone, Debug, Deserialize)]
struct WireResult {
    call_id: String,
    output: Content,
}

impl Input {
    pub(super) fn check(self, instructions: Option<&str>) -> Result<Vec<Message>, ApiError> {
        let mut messages = Vec::new();
        messages.extend(instructions.map(|text| Message::new(Role::System, text)));
        match self {
            Self::Text(text) => messages.push(Message::new(Role::User, text)),
            Self::Items(items) if items.is_empty() => {
                return Err(ApiError::invalid("input", "is empty; send at least one item"));
            }
            Self::Items(items) => {
                for (index, item) in items.iter().enumerate() {
                    add(item, &format!("input[{index}]"), &mut messages)?;
                }
            }
        }
        Ok(messages)
    }
}

fn add(item: &Value, at: &str, messages: &mut Vec<Message>) -> Result<(), ApiError> {
    let kind = item.get("type").and_then(Value::as_str).unwrap_or("message").to_owned();
    match kind.as_str() {
        "message" => {
            let WireMessage { role: word, content } = from_value(item, at)?;
            let role = role(&word, at)?;
            if role == Role::Tool {
                let reason = "is `tool`; send the result as a `function_call_output`";
                return Err(ApiError::invalid(format!("{at}.role"), reason));
            }
            messages.push(Message::new(role, content.check(&format!("{at}.content"))?));
        }
        "function_call" => {
            let WireCall { call_id, name, arguments } = from_value(item, at)?;
            let call = tool_call(call_id, name, &arguments);
            match messages.last_mut().filter(|message| message.role == Role::Assistant) {
                Some(message) => message.tool_calls.push(call),
                None => {
                    let mut message = Message::new(Role::Assistant, "");
                    message.tool_calls.push(call);
                    messages.push(message);
                }
            }
        }
        "function_call_output" => {
            let WireResult { call_id, output } = from_value(item, at)?;
            let content = output.check(&format!("{at}.output"))?;
            let tool_call_id = Some(call_id);
            messages.push(Message { tool_call_id, ..Message::new(Role::Tool, content) });
        }
        other => {
            let reason = format!(
                "is `{other}`; only message, function_call and function_call_output are served"
            );
            return Err(ApiError::unsupported(format!("{at}.type"), reason));
        }
    }
    Ok(())
}
