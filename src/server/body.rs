//! A request's body as a wire type, or an error that says what is wrong and where.

mod mistyped;

use axum::{
    body::Bytes,
    extract::{FromRequest, Request, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, error::Category};

use super::{ApiError, App};
use mistyped::refusal;

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
        let whole = || serde_json::from_slice::<Value>(bytes).ok();
        match error.inner().classify() {
            Category::Data => {
                refusal(whole().as_ref(), "", error.path(), &error.inner().to_string())
            }
            Category::Syntax | Category::Eof | Category::Io => bad_json(error.inner()),
        }
    })?;
    json.end().map_err(|error| bad_json(&error))?;
    Ok(parsed)
}

/// A part of a body that was read before; `at` is where it stands.
pub(super) fn from_value<T: DeserializeOwned>(value: &Value, at: &str) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(value)
        .map_err(|error| refusal(Some(value), at, error.path(), &error.inner().to_string()))
}

fn bad_json(error: &serde_json::Error) -> ApiError {
    ApiError::BadJson { reason: error.to_string() }
}
