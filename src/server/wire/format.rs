//! `response_format` and its relatives of other servers, as constraints.

use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::{constrain::Constraint, server::ApiError};

#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(in crate::server) struct ResponseFormat {
    #[serde(rename = "type")]
    kind: String,
    json_schema: Option<JsonSchemaFormat>,
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(in crate::server) struct JsonSchemaFormat {
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
            other => Err(ApiError::invalid(
                "response_format.type",
                format!("is `{other}`; it must be text, json_object or json_schema"),
            )),
        }
    }
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
        Some(schema @ Value::Object(_)) => Ok(Constraint::JsonSchema(schema)),
        _ => Err(ApiError::invalid(param, "must be an object")),
    }
}
