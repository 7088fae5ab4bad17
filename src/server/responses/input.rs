//! `input`: a text, or items of a conversation.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    server::{
        ApiError,
        body::{Instead, StringOr},
        chat::{Content, role, tool_call},
    },
    tokenizer::chat::{Message, Role},
};

pub(super) type Input = StringOr<Vec<Item>>;

impl Instead for Vec<Item> {
    const EXPECTED: &'static str = "a string or a list of items";
}

/// A message without a `type`; a call or its result by theirs. Each has its own of the other
/// fields.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(super) struct Item {
    #[serde(rename = "type")]
    kind: Option<String>,
    role: Option<String>,
    #[schema(inline)]
    content: Option<Content>,
    call_id: Option<String>,
    name: Option<String>,
    arguments: Option<String>,
    #[schema(inline)]
    output: Option<Content>,
}

/// The conversation that an input is.
pub(super) fn messages(input: Input, instructions: Option<&str>) -> Result<Vec<Message>, ApiError> {
    let mut messages = Vec::new();
    messages.extend(instructions.map(|text| Message::new(Role::System, text)));
    match input {
        StringOr::String(text) => messages.push(Message::new(Role::User, text)),
        StringOr::Other(items) if items.is_empty() => {
            return Err(ApiError::invalid("input", "is empty; send at least one item"));
        }
        StringOr::Other(items) => {
            for (index, item) in items.into_iter().enumerate() {
                add(item, &format!("input[{index}]"), &mut messages)?;
            }
        }
    }
    Ok(messages)
}

fn add(item: Item, at: &str, messages: &mut Vec<Message>) -> Result<(), ApiError> {
    let missing = |name: &'static str| move || ApiError::missing(format!("{at}.{name}"));
    match item.kind.as_deref().unwrap_or("message") {
        "message" => {
            let role = role(&item.role.ok_or_else(missing("role"))?, at)?;
            if role == Role::Tool {
                let reason = "is `tool`; send the result as a `function_call_output`";
                return Err(ApiError::invalid(format!("{at}.role"), reason));
            }
            let content = item.content.ok_or_else(missing("content"))?;
            messages.push(Message::new(role, content.check(&format!("{at}.content"))?));
        }
        "function_call" => {
            let id = item.call_id.ok_or_else(missing("call_id"))?;
            let name = item.name.ok_or_else(missing("name"))?;
            let call = tool_call(id, name, &item.arguments.unwrap_or_default());
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
            let tool_call_id = Some(item.call_id.ok_or_else(missing("call_id"))?);
            let output = item.output.ok_or_else(missing("output"))?;
            let content = output.check(&format!("{at}.output"))?;
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
