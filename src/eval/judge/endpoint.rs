//! A judge that is asked over the OpenAI API. Knows texts only.

use std::time::Duration;

use serde_json::{Value, json};
use ureq::{Agent, tls::TlsConfig};

/// A model behind an OpenAI-compatible address.
#[derive(Clone, Debug)]
pub struct Endpoint {
    url: String,
    model: String,
    key: Option<String>,
    agent: Agent,
}

/// Why a judge says nothing.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error("the judge at {url} cannot be asked: {reason}; what it has said is kept")]
    Unreachable { url: String, reason: String },
    #[error("the judge at {url} refuses with {status}: {said}; what it has said is kept")]
    Refused { url: String, status: u16, said: String },
    #[error("the judge at {url} answers with something else than a chat: {said}")]
    NoChat { url: String, said: String },
}

const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// A model on a processor may read two reports for minutes.
const ANSWER_WITHIN: Duration = Duration::from_secs(900);
/// One word is asked for; some models think before it.
const MAX_TOKENS: usize = 1024;
/// Of an answer that is none, so much is told.
const SHOWN: usize = 200;

impl Endpoint {
    /// `base` is what comes before `/chat/completions`, such as `http://127.0.0.1:8080/v1`.
    pub fn new(base: &str, model: &str, key: Option<String>) -> Self {
        let agent = Agent::config_builder()
            .tls_config(TlsConfig::builder().build())
            .timeout_connect(Some(CONNECT_WITHIN))
            .timeout_global(Some(ANSWER_WITHIN))
            .http_status_as_error(false)
            .build()
            .into();
        let url = format!("{}/chat/completions", base.trim_end_matches('/'));
        Self { url, model: model.to_owned(), key, agent }
    }

    pub fn model(&self) -> &str {
        &self.model
    }

    /// What the model answers, as greedily as the endpoint can.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn ask(&self, question: &str) -> Result<String, EndpointError> {
        let url = || self.url.clone();
        let unreachable = |error: ureq::Error| EndpointError::Unreachable {
            url: url(),
            reason: error.to_string(),
        };
        let body = json!({
            "model": self.model,
            "messages": [{ "role": "user", "content": question }],
            "temperature": 0,
            "max_tokens": MAX_TOKENS,
        });
        let mut request = self.agent.post(&self.url).header("content-type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let mut response = request.send(body.to_string()).map_err(unreachable)?;
        let said = response.body_mut().read_to_string().map_err(unreachable)?;
        let status = response.status();
        let shown = || said.chars().take(SHOWN).collect();
        if !status.is_success() {
            let status = status.as_u16();
            return Err(EndpointError::Refused { url: url(), status, said: shown() });
        }
        let answer: Value = serde_json::from_str(&said).unwrap_or_default();
        match answer["choices"][0]["message"]["content"].as_str() {
            Some(content) => Ok(content.to_owned()),
            None => Err(EndpointError::NoChat { url: url(), said: shown() }),
        }
    }
}
