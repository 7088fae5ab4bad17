//! A request's body as a wire type, or an error that says what is wrong and where.

mod mistyped;
mod string_or;
mod unread;

use axum::{
    body::Bytes,
    extract::{FromRequest, Request, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, error::Category};

use super::{ApiError, App};
use mistyped::{refusal, shown};

pub(super) use string_or::{Instead, StringOr};
pub(super) use unread::{Place, neither};

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
    /// What one type reads, and where the fields stand that it does not read.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<(T, Vec<Place>), ApiError> {
        // The derived types would take a list too, as their fields in order.
        if !self.0.trim_ascii_start().starts_with(b"{") {
            let body: Value = serde_json::from_slice(&self.0).map_err(|error| bad_json(&error))?;
            let reason = format!("must be an object, not {}", shown(&body));
            return Err(ApiError::WrongType { param: None, reason });
        }
        parse(&self.0)
    }

    /// All that was sent.
    pub(super) fn value(&self) -> Result<Value, ApiError> {
        Ok(self.parse()?.0)
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

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, Vec<Place>), ApiError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let mut unread = Vec::new();
    let mut note = |path: serde_ignored::Path<'_>| unread.push(Place::from(&path));
    let noted = serde_ignored::Deserializer::new(&mut json, &mut note);
    let parsed = serde_path_to_error::deserialize(noted).map_err(|error| {
        let whole = || serde_json::from_slice::<Value>(bytes).ok();
        match error.inner().classify() {
            Category::Data => refusal(whole().as_ref(), error.path(), &error.inner().to_string()),
            Category::Syntax | Category::Eof | Category::Io => bad_json(error.inner()),
        }
    })?;
    json.end().map_err(|error| bad_json(&error))?;
    Ok((parsed, unread))
}

fn bad_json(error: &serde_json::Error) -> ApiError {
    ApiError::BadJson { reason: error.to_string() }
}
