//! A request's body as a wire type, or an error that says what is wrong and where.

use axum::{
    body::Bytes,
    extract::{FromRequest, Request, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, error::Category};

use super::{ApiError, App};

/// The bytes of a body that says it is JSON; [`parse`] makes the types of them.
pub(super) struct JsonBody(Bytes);

impl FromRequest<App> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        // A web page of another origin can post forms and plain text without asking, JSON it
        // cannot: this keeps it from making a server on this machine work.
        if !is_json(request.headers()) {
            return Err(ApiError::NotJson);
        }
        let limit = app.config.max_body_bytes;
        let bytes = Bytes::from_request(request, app).await.map_err(|e| unreadable(&e, limit))?;
        Ok(Self(bytes))
    }
}

impl JsonBody {
    /// The fields that one type reads. Others are left to others.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        parse(&self.0)
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

fn unreadable(rejection: &BytesRejection, limit: usize) -> ApiError {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::BodyTooLarge { limit },
        _ => ApiError::BodyUnreadable { reason: rejection.body_text() },
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        bad_json(Some(path).filter(|path| path != "."), error.inner())
    })?;
    json.end().map_err(|error| bad_json(None, &error))?;
    Ok(parsed)
}

/// A part of a body that was read before; `at` is where it stands.
pub(super) fn from_value<T: DeserializeOwned>(value: Value, at: &str) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let param = if path == "." { at.to_owned() } else { format!("{at}.{path}") };
        ApiError::WrongType {
            param: Some(param),
            reason: in_json_words(&error.inner().to_string()),
        }
    })
}

fn bad_json(param: Option<String>, error: &serde_json::Error) -> ApiError {
    match error.classify() {
        Category::Data => ApiError::WrongType { param, reason: in_json_words(&error.to_string()) },
        Category::Syntax | Category::Eof | Category::Io => {
            ApiError::BadJson { reason: error.to_string() }
        }
    }
}

/// What serde calls a type, and what JSON does. Longer ones first.
const WORDS: &[(&str, &str)] = &[
    ("floating point ", "number "),
    ("integer ", "number "),
    ("sequence", "list"),
    ("map", "object"),
    ("unit value", "null"),
    ("newtype ", ""),
];

/// A message of serde about data, without the names of this server's types: "invalid type: map,
/// expected struct X at line 1 column 2".
fn in_json_words(message: &str) -> String {
    let Some((found, expected)) = message.split_once(", expected ") else {
        return message.to_owned();
    };
    // What was found may quote the client's own text, which is not ours to change.
    let (kind, value) = found.split_at(found.find(['`', '"']).unwrap_or(found.len()));
    let kind = WORDS.iter().fold(kind.to_owned(), |kind, (rust, json)| kind.replace(rust, json));
    let (expected, place) = expected.split_at(expected.find(" at line").unwrap_or(expected.len()));
    format!("{kind}{value}, expected {}{place}", json_type(expected))
}

fn json_type(expected: &str) -> &str {
    match expected {
        "f32" | "f64" => "a number",
        "i64" | "u64" | "i32" | "u32" | "usize" => "an integer",
        "a sequence" => "a list",
        "a map" => "an object",
        other if other.starts_with("struct ") => "an object",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::in_json_words;

    #[test]
    fn types_are_called_as_json_calls_them() {
        for (serde, json) in [
            (
                "invalid type: sequence, expected struct Request at line 1 column 0",
                "invalid type: list, expected an object at line 1 column 0",
            ),
            (
                "invalid type: string \"a map\", expected f64 at line 1 column 9",
                "invalid type: string \"a map\", expected a number at line 1 column 9",
            ),
            (
                "invalid type: map, expected a sequence at line 1 column 9",
                "invalid type: object, expected a list at line 1 column 9",
            ),
            (
                "invalid type: floating point `1.5`, expected i64",
                "invalid type: number `1.5`, expected an integer",
            ),
            ("missing field `role` at line 1 column 9", "missing field `role` at line 1 column 9"),
        ] {
            assert_eq!(in_json_words(serde), json);
        }
    }
}
