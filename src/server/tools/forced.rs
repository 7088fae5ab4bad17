//! What a call that has to come is held to: a JSON schema of the functions' parameters.

use std::collections::HashMap;

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

/// Those of one name are the same: [`two_definitions`] refuses others.
fn hoist_definitions(tools: &[Tool], into: &mut Value) {
    for tool in tools {
        for (name, key, schema) in definitions(tool) {
            into[name][key] = schema.clone();
        }
    }
}

/// Where two of these tools define different schemas under one name: the later one's number, and
/// the name. They could not stand in one document.
pub(super) fn two_definitions(tools: &[Tool]) -> Option<(usize, &str)> {
    let mut known = HashMap::new();
    for (index, tool) in tools.iter().enumerate() {
        for (name, key, schema) in definitions(tool) {
            if *known.entry((name, key)).or_insert(schema) != schema {
                return Some((index, key));
            }
        }
    }
    None
}

fn definitions(tool: &Tool) -> impl Iterator<Item = (&'static str, &str, &Value)> {
    let of = |name| {
        let schemas = tool.parameters.as_ref().and_then(|schema| schema.get(name)?.as_object());
        schemas.into_iter().flatten().map(move |(key, schema)| (name, key.as_str(), schema))
    };
    DEFINITIONS.into_iter().flat_map(of)
}
