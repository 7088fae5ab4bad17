//! API keys: who may ask.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::server::{ApiError, App};

/// What tells nothing about prompts, answers or load, so that probes and clients' discovery need
/// no key.
const OPEN: &[&str] = &["/health", "/ready", "/version", "/openapi.json"];

/// The keys that are let in; none lets everybody in.
///
/// Digests of equal length are compared, all of them every time, so that the time an answer takes
/// says nothing about a key.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ApiKeys {
    digests: Vec<[u8; 32]>,
}

impl ApiKeys {
    /// Keys one a line or between commas. Empty ones and lines that begin with `#` are left out.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        let keys = lines.flat_map(|line| line.split(',')).map(str::trim);
        let digests = keys.filter(|key| !key.is_empty()).map(|key| digest(key.as_bytes()));
        Self { digests: digests.collect() }
    }

    /// The keys of both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.digests.extend(other.digests);
        self
    }

    pub fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    fn admit(&self, key: &[u8]) -> bool {
        let key = digest(key);
        let found = self.digests.iter().map(|known| known.ct_eq(&key));
        found.fold(subtle::Choice::from(0), |any, found| any | found).into()
    }
}

/// Not even the digests.
impl std::fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} API keys", self.digests.len())
    }
}

fn digest(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
}

pub(in crate::server) async fn check(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Response {
    let keys = &app.config.api_keys;
    if keys.is_empty() || OPEN.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    match bearer(request.headers()) {
        Some(key) if keys.admit(key) => next.run(request).await,
        Some(_) => ApiError::WrongKey.into_response(),
        None => ApiError::NoKey.into_response(),
    }
}

/// The scheme's name is not case-sensitive (RFC 9110, section 11.1).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, key) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| key.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::ApiKeys;

    #[test]
    fn keys_stand_one_a_line_or_between_commas() {
        let keys = ApiKeys::parse("# ours\n one \n\ntwo,three,\r\n").and(ApiKeys::parse("four"));
        for key in ["one", "two", "three", "four"] {
            assert!(keys.admit(key.as_bytes()), "{key}");
        }
        for key in ["", "# ours", "on", "onee", "two,three", "One"] {
            assert!(!keys.admit(key.as_bytes()), "{key}");
        }
        assert!(ApiKeys::parse(" \n# none\n,").is_empty());
    }

    #[test]
    fn keys_are_not_shown() {
        assert_eq!(format!("{:?}", ApiKeys::parse("secret")), "1 API keys");
    }
}
