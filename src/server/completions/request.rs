//! The request on the wire, and its check into a [`GenerateRequest`].

use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    engine::{GenerateRequest, Logprobs, Prompt, UnionId},
    server::{
        ApiError, App,
        error::Names,
        wire::{Body, Own, StreamOptions, at_least},
    },
};

/// As OpenAI's API has it.
const DEFAULT_MAX_TOKENS: usize = 16;
/// As chats have it; OpenAI allows 5 here.
const MAX_LOGPROBS: usize = 20;
/// Prompts of one request.
const MAX_PROMPTS: usize = 1024;

/// The body of `POST /v1/completions`.
pub(super) type CompletionRequest = Body<OwnFields>;

/// What chats do not have.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = CompletionFields)]
pub(super) struct OwnFields {
    #[schema(value_type = WirePrompt)]
    prompt: Option<WirePrompt>,
    echo: Option<bool>,
    /// Of each token: natural logarithms, out of the fused distribution under the constraint, before
    /// penalties and temperature; with `echo` the prompt's too.
    #[schema(minimum = 0, maximum = 20)]
    logprobs: Option<i64>,
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "expected a string, a list of strings, a list of token ids, or a list of those"
)]
enum WirePrompt {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    Lists(Vec<Vec<u32>>),
}

/// What is asked of the engine, once for each prompt and choice, and how the answer is to be sent.
pub(super) struct Question {
    /// Without its prompt.
    pub(super) generate: GenerateRequest,
    pub(super) prompts: Vec<Prompt>,
    /// Of each prompt.
    pub(super) choices: usize,
    pub(super) stream: Option<StreamOptions>,
    pub(super) echo: bool,
    pub(super) names: Names,
}

impl CompletionRequest {
    /// Checks everything that can be checked without the models.
    pub(super) fn check(self, app: &App) -> Result<Question, ApiError> {
        let mut common = self.fields.check(app.sampling())?;
        common.stop.max_tokens.get_or_insert(DEFAULT_MAX_TOKENS.max(common.stop.min_tokens));
        let echo = self.own.echo.unwrap_or(false);
        let told = self.own.logprobs.or(common.attribution.then_some(0));
        let logprobs = told.map(|top| {
            let top = at_least("logprobs", top, 0)?;
            if top > MAX_LOGPROBS {
                let reason = format!("is {top}; at most {MAX_LOGPROBS} are served");
                return Err(ApiError::invalid("logprobs", reason));
            }
            let prompt = echo.then_some(0);
            Ok(Logprobs { top, members: common.attribution, prompt, ..Logprobs::default() })
        });
        let prompts = prompts(self.own.prompt.ok_or_else(|| ApiError::missing("prompt"))?);
        if !(1..=MAX_PROMPTS).contains(&prompts.len()) {
            let reason = format!("has {} prompts; send 1 to {MAX_PROMPTS}", prompts.len());
            return Err(ApiError::invalid("prompt", reason));
        }
        let (asked_by, constraint) = common.constraint.take().unzip();
        let names = Names { prompt: "prompt", ..Names::default() };
        Ok(Question {
            names: Names { constraint: asked_by.unwrap_or(names.constraint), ..names },
            prompts,
            choices: common.choices,
            stream: common.stream,
            echo,
            generate: common.generate(
                Prompt::Text(String::new()),
                constraint,
                logprobs.transpose()?,
            ),
        })
    }
}

fn prompts(prompt: WirePrompt) -> Vec<Prompt> {
    let tokens = |ids: Vec<u32>| Prompt::Tokens(ids.into_iter().map(UnionId).collect());
    match prompt {
        WirePrompt::Text(text) => vec![Prompt::Text(text)],
        WirePrompt::Texts(texts) => texts.into_iter().map(Prompt::Text).collect(),
        WirePrompt::Tokens(ids) => vec![tokens(ids)],
        WirePrompt::Lists(lists) => lists.into_iter().map(tokens).collect(),
    }
}

/// The prompts as texts, for an answer that repeats them.
pub(super) fn texts(app: &App, model: &str, prompts: &[Prompt]) -> Result<Vec<String>, ApiError> {
    let text = |prompt: &Prompt| match prompt {
        Prompt::Text(text) => Ok(text.clone()),
        Prompt::Tokens(ids) => {
            let bytes = app.engine.detokenize(model, ids)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
        Prompt::Chat { .. } => Ok(String::new()),
    };
    prompts.iter().map(text).collect()
}

impl Own for OwnFields {
    const NAME: &'static str = "CompletionRequest";
}
