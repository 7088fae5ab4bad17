//! What a call that has to come is held to: a JSON schema of the functions' parameters.

use serde_json::{Value, json};

use super::Calls;
use crate::{constrain::Constraint, server::wire::closed, tokenizer::chat::Tool};

impl Calls {
    /// What the text is held to so that it is a call; `None` if it need not be one.
    pub(in crate::server) fn constraint(&self) -> Option<Constraint> {
        match self {
            Self::Never | Self::Free { .. } => None,
            Self::Named(tool) => Some(Constraint::JsonSchema(arguments(tool))),
            Self::OneOf(tools) => {
                let call = |tool: &Tool| {
                    json!({
                        "type": "object",
                        "properties": {
                            "name": { "const": tool.name },
                            "arguments": without_definitions(arguments(tool)),
                        },
                        "required": ["name", "arguments"],
                        "additionalProperties": false,
                    })
                };
                let mut schema = json!({ "anyOf": tools.iter().map(call).collect::<Vec<_>>() });
                hoist_definitions(tools, &mut schema);
                Some(Constraint::JsonSchema(schema))
            }
        }
    }
}

fn arguments(tool: &Tool) -> Value {
    let none = || json!({ "type": "object", "properties": {} });
    closed(tool.parameters.clone().unwrap_or_else(none))
}

/// References point to the document's root, where the definitions have to be.
const DEFINITIONS: [&str; 2] = ["$defs", "definitions"];

fn without_definitions(mut schema: Value) -> Value {
    if let Some(fields) = schema.as_object_mut() {
        fields.retain(|name, _| !DEFINITIONS.contains(&name.as_str()));
    }
    schema
}

/// Of definitions with one name the first is kept; schemas of one client share what they share.
fn hoist_definitions(tools: &[Tool], into: &mut Value) {
    for tool in tools {
        for name in DEFINITIONS {
            let schemas = tool.parameters.as_ref().and_then(|schema| schema.get(name));
            for (key, schema) in schemas.and_then(Value::as_object).into_iter().flatten() {
                if into[name].get(key).is_none() {
                    into[name][key] = schema.clone();
                }
            }
        }
    }
}
