//! `response_format` and its relatives of other servers, as constraints.

use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{Fields, closed};
use crate::{constrain::Constraint, server::ApiError};

#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(in crate::server) struct ResponseFormat {
    #[serde(rename = "type")]
    kind: String,
    json_schema: Option<JsonSchemaFormat>,
    /// With the type `regex`.
    regex: Option<String>,
    /// With the type `grammar`, in the dialect of Lark that llguidance reads.
    grammar: Option<String>,
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(in crate::server) struct JsonSchemaFormat {
    /// Objects have the properties that it lists and no others, unless it says otherwise
    /// (`additionalProperties`).
    pub(in crate::server) schema: Option<Value>,
}

impl ResponseFormat {
    /// `None` for a text of any form.
    pub(in crate::server) fn check(self) -> Result<Option<Constraint>, ApiError> {
        match self.kind.as_str() {
            "text" => Ok(None),
            "json_object" => Ok(Some(any_object())),
            "json_schema" => {
                let schema = self.json_schema.and_then(|format| format.schema);
                schema_of(schema, "response_format.json_schema.schema").map(Some)
            }
            "regex" => match self.regex {
                Some(regex) => Ok(Some(Constraint::Regex(regex))),
                None => Err(ApiError::missing("response_format.regex")),
            },
            "grammar" => match self.grammar {
                Some(grammar) => Ok(Some(Constraint::Grammar(grammar))),
                None => Err(ApiError::missing("response_format.grammar")),
            },
            other => Err(ApiError::invalid(
                "response_format.type",
                format!(
                    "is `{other}`; it must be text, json_object, json_schema, regex or grammar"
                ),
            )),
        }
    }
}

/// A constraint, and the field that asks for it.
pub(in crate::server) type Asked = (&'static str, Constraint);

/// The constraint that vLLM's `guided_` fields ask for; one of them at most.
pub(super) fn guided(fields: &Fields) -> Result<Option<Asked>, ApiError> {
    let schema = fields.guided_json.clone();
    let schema = schema.map(|schema| schema_of(Some(schema), "guided_json")).transpose()?;
    if fields.guided_choice.as_ref().is_some_and(Vec::is_empty) {
        return Err(ApiError::invalid("guided_choice", "is empty; name at least one text"));
    }
    let asked = [
        ("guided_json", schema),
        ("guided_regex", fields.guided_regex.clone().map(Constraint::Regex)),
        ("guided_grammar", fields.guided_grammar.clone().map(Constraint::Grammar)),
        ("guided_choice", fields.guided_choice.clone().map(Constraint::Choice)),
    ];
    let asked = asked.into_iter().filter_map(|(name, asked)| Some((name, asked?)));
    asked.map(Ok).reduce(one_of).transpose()
}

/// Of a request that may be under two constraints, the one it is under.
pub(in crate::server) fn one(
    format: Option<Asked>,
    guided: Option<Asked>,
) -> Result<Option<Asked>, ApiError> {
    format.into_iter().chain(guided).map(Ok).reduce(one_of).transpose()
}

fn one_of(one: Result<Asked, ApiError>, other: Result<Asked, ApiError>) -> Result<Asked, ApiError> {
    let reason = format!("is a second constraint beside `{}`; send one of them", one?.0);
    Err(ApiError::invalid(other?.0, reason))
}

pub(in crate::server) fn any_object() -> Constraint {
    Constraint::JsonSchema(json!({ "type": "object" }))
}

/// `param` is where the schema stands.
pub(in crate::server) fn schema_of(
    schema: Option<Value>,
    param: &str,
) -> Result<Constraint, ApiError> {
    match schema {
        Some(schema @ Value::Object(_)) => Ok(Constraint::JsonSchema(closed(schema))),
        _ => Err(ApiError::invalid(param, "must be an object")),
    }
}
