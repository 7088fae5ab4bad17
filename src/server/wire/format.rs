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
                None => Err(ApiError::Missing { param: "response_format.regex" }),
            },
            "grammar" => match self.grammar {
                Some(grammar) => Ok(Some(Constraint::Grammar(grammar))),
                None => Err(ApiError::Missing { param: "response_format.grammar" }),
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

/// The constraint that vLLM's `guided_` fields ask for; one of them at most.
pub(super) fn guided(fields: &Fields) -> Result<Option<Constraint>, ApiError> {
    let schema = fields.guided_json.clone();
    let schema = schema.map(|schema| schema_of(Some(schema), "guided_json")).transpose()?;
    if fields.guided_choice.as_ref().is_some_and(Vec::is_empty) {
        return Err(ApiError::invalid("guided_choice", "is empty; name at least one text"));
    }
    let asked = [
        schema,
        fields.guided_regex.clone().map(Constraint::Regex),
        fields.guided_grammar.clone().map(Constraint::Grammar),
        fields.guided_choice.clone().map(Constraint::Choice),
    ];
    let mut asked = asked.into_iter().flatten();
    match (asked.next(), asked.next()) {
        (_, Some(_)) => Err(ApiError::invalid("guided_json", GUIDED_TWICE)),
        (constraint, None) => Ok(constraint),
    }
}

/// What is wrong with two constraints.
pub(in crate::server) const GUIDED_TWICE: &str =
    "is one of two constraints; send one `guided_` field, or `response_format`";

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
