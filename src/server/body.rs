//! A request's body as a wire type, or an error that says what is wrong and where.

use axum::{
    body::Bytes,
    extract::{FromRequest, Request, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header},
};
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::{ApiError, App};

/// Like axum's `Json`, with refusals in the API's own form.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<App> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        // A web page of another origin can post forms and plain text without asking, JSON it
        // cannot: this keeps it from making a server on this machine work.
        if !is_json(request.headers()) {
            return Err(ApiError::NotJson);
        }
        let limit = app.config.max_body_bytes;
        let bytes = Bytes::from_request(request, app).await.map_err(|e| unreadable(&e, limit))?;
        parse(&bytes).map(Self)
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

fn bad_json(param: Option<String>, error: &serde_json::Error) -> ApiError {
    match error.classify() {
        Category::Data => ApiError::WrongType { param, reason: error.to_string() },
        Category::Syntax | Category::Eof | Category::Io => {
            ApiError::BadJson { reason: error.to_string() }
        }
    }
}
