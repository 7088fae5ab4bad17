//! Which web pages of other origins may ask.

use axum::http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::access::REQUEST_ID;
use crate::server::wire::IGNORED_PARAMS;

/// `None` for no origins: then no header allows anything, and browsers refuse.
pub(in crate::server) fn layer(origins: &[HeaderValue]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().cloned())
    };
    let exposed: [HeaderName; 3] = [REQUEST_ID, IGNORED_PARAMS, header::RETRY_AFTER];
    Some(
        CorsLayer::new()
            .allow_origin(allowed)
            .allow_methods([Method::GET, Method::POST, Method::DELETE])
            // The SDKs in browsers send headers of their own beside these two.
            .allow_headers(tower_http::cors::AllowHeaders::mirror_request())
            .expose_headers(exposed),
    )
}
