//! Every refusal and failure of the API, and the one table from error to status and code.

use axum::{
    Json,
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::engine::{GenerateError, ModelCard};

/// Seconds after which a refused client may come back: about what a short answer takes.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("2");

/// Why a request was refused or did not end well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    #[error("there is no `{path}` here; the API is under `/v1`, for example `GET /v1/models`")]
    UnknownRoute { method: Method, path: String },
    #[error("`{path}` does not take {method}; the `allow` header says what it takes")]
    MethodNotAllowed { method: Method, path: String },
    #[error("there is no API key; send one as `Authorization: Bearer KEY`")]
    NoKey,
    #[error("the API key is not one of this server's")]
    WrongKey,
    #[error("{limit} requests are being answered already; try again later")]
    TooManyRequests { limit: usize },
    #[error("the body must be JSON; send it with `Content-Type: application/json`")]
    NotJson,
    #[error("the body has more than the {limit} bytes allowed")]
    BodyTooLarge { limit: usize },
    #[error("the body could not be read: {reason}")]
    BodyUnreadable { reason: String },
    #[error("the body is not valid JSON: {reason}")]
    BadJson { reason: String },
    /// Valid JSON of another shape than the API's.
    #[error("{} {reason}", .param.as_ref().map_or("the body".to_owned(), |it| format!("`{it}`")))]
    WrongType { param: Option<String>, reason: String },
    #[error("`{param}` is required")]
    Missing { param: String },
    #[error("`{param}` {reason}")]
    InvalidValue { param: String, reason: String },
    /// A field that the API has and this server does not serve.
    #[error("`{param}` {reason}")]
    Unsupported { param: String, reason: String },
    #[error("there is no report `{id}`; `GET /v1/reports` lists those there are")]
    UnknownReport { id: String },
    #[error("{reason}")]
    ReportTaken { reason: String },
    #[error("{reason}")]
    ReportStore { reason: String },
    #[error("there is no report: {reason}")]
    ReportFailed { reason: String },
    #[error("{error}")]
    Generate { error: GenerateError, names: Names },
    #[error("the engine ended the generation without a result")]
    Unfinished,
    #[error("the server failed on this request; its log has the cause")]
    Panicked,
}

/// What a request calls those parts of it that the engine may refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    pub(super) prompt: &'static str,
    pub(super) budget: &'static str,
    pub(super) constraint: &'static str,
}

/// Those of a chat.
impl Default for Names {
    fn default() -> Self {
        Self { prompt: "messages", budget: "max_tokens", constraint: "response_format" }
    }
}

impl From<GenerateError> for ApiError {
    fn from(error: GenerateError) -> Self {
        Self::Generate { error, names: Names::default() }
    }
}

impl ApiError {
    pub(super) fn missing(param: impl Into<String>) -> Self {
        Self::Missing { param: param.into() }
    }

    /// The same; where a model is unknown these are told of beside the engine's.
    pub(super) fn and_models(mut self, models: Vec<ModelCard>) -> Self {
        if let Self::Generate { error: GenerateError::UnknownModel { available, .. }, .. } =
            &mut self
        {
            available.extend(models.into_iter().map(|card| card.name));
        }
        self
    }

    /// The same, of a request that has these names.
    pub(super) fn in_words_of(self, names: Names) -> Self {
        match self {
            Self::Generate { error, .. } => Self::Generate { error, names },
            other => other,
        }
    }

    pub(super) fn invalid(param: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::InvalidValue { param: param.into(), reason: reason.into() }
    }

    pub(super) fn unsupported(param: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Unsupported { param: param.into(), reason: reason.into() }
    }

    /// The table: what each error is on the wire.
    fn status_and_code(&self) -> (StatusCode, &'static str) {
        use GenerateError as G;
        match self {
            Self::UnknownRoute { .. } => (StatusCode::NOT_FOUND, "unknown_url"),
            Self::MethodNotAllowed { .. } => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::NoKey | Self::WrongKey => (StatusCode::UNAUTHORIZED, "invalid_api_key"),
            Self::TooManyRequests { .. } => (StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded"),
            Self::NotJson => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"),
            Self::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "request_too_large"),
            Self::BodyUnreadable { .. } => (StatusCode::BAD_REQUEST, "unreadable_body"),
            Self::BadJson { .. } => (StatusCode::BAD_REQUEST, "invalid_json"),
            Self::WrongType { .. } => (StatusCode::BAD_REQUEST, "invalid_type"),
            Self::Missing { .. } => (StatusCode::BAD_REQUEST, "missing_required_parameter"),
            Self::InvalidValue { .. } => (StatusCode::BAD_REQUEST, "invalid_value"),
            Self::Unsupported { .. } => (StatusCode::BAD_REQUEST, "unsupported_parameter"),
            Self::UnknownReport { .. } => (StatusCode::NOT_FOUND, "report_not_found"),
            Self::ReportTaken { .. } => (StatusCode::CONFLICT, "report_taken"),
            Self::ReportStore { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "internal_error"),
            Self::ReportFailed { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "report_failed"),
            Self::Generate { error, .. } => match error {
                G::UnknownModel { .. } => (StatusCode::NOT_FOUND, "model_not_found"),
                G::PromptTooLong { .. } => (StatusCode::BAD_REQUEST, "context_length_exceeded"),
                G::UnknownPiece { .. } | G::Prompt { .. } => {
                    (StatusCode::BAD_REQUEST, "invalid_prompt")
                }
                G::Template { .. } => (StatusCode::BAD_REQUEST, "invalid_messages"),
                G::Constraint { .. } => (StatusCode::BAD_REQUEST, "invalid_response_format"),
                G::Budget { .. } => (StatusCode::BAD_REQUEST, "max_tokens_too_small"),
                G::UnknownBias { .. } | G::Fusion { .. } => {
                    (StatusCode::BAD_REQUEST, "invalid_value")
                }
                G::QueueFull { .. } => (StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded"),
                G::Unread { .. } => (StatusCode::REQUEST_TIMEOUT, "unread"),
                G::Stopped => (StatusCode::SERVICE_UNAVAILABLE, "engine_stopped"),
                G::Member { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "member_failed"),
            },
            Self::Unfinished | Self::Panicked => {
                (StatusCode::INTERNAL_SERVER_ERROR, "internal_error")
            }
        }
    }

    /// The field of the request that the error is about.
    fn param(&self) -> Option<&str> {
        use GenerateError as G;
        match self {
            Self::WrongType { param, .. } => param.as_deref(),
            Self::Missing { param } => Some(param),
            Self::InvalidValue { param, .. } | Self::Unsupported { param, .. } => Some(param),
            Self::Generate { error, names } => match error {
                G::UnknownModel { .. } => Some("model"),
                G::PromptTooLong { .. }
                | G::Template { .. }
                | G::Prompt { .. }
                | G::UnknownPiece { .. } => Some(names.prompt),
                G::UnknownBias { .. } => Some("logit_bias"),
                G::Constraint { .. } => Some(names.constraint),
                G::Budget { .. } => Some(names.budget),
                G::Fusion { param, .. } => Some(param),
                G::QueueFull { .. } | G::Unread { .. } | G::Stopped | G::Member { .. } => None,
            },
            _ => None,
        }
    }

    /// What is the server's own fault goes to its log.
    pub(super) fn log(&self) {
        let (status, code) = self.status_and_code();
        if status.is_server_error() {
            tracing::error!(code, "{self}");
        }
    }

    /// OpenAI's error object, as a body or as a stream's last event. What is the server's own
    /// fault goes to its log as well.
    pub(super) fn object(&self) -> ErrorObject {
        let (status, code) = self.status_and_code();
        let kind = match status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            _ if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        self.log();
        let param = self.param().map(str::to_owned);
        ErrorObject { error: ErrorFields { message: self.to_string(), kind, param, code } }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, _) = self.status_and_code();
        let mut response = (status, Json(self.object())).into_response();
        if status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorObject {
    error: ErrorFields,
}

#[derive(Debug, Serialize, ToSchema)]
struct ErrorFields {
    message: String,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<String>,
    code: &'static str,
}
