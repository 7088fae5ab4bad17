//! The request on the wire, and its check into a [`GenerateRequest`].

use serde::Deserialize;
use utoipa::ToSchema;

use super::message::WireMessage;
use crate::{
    engine::{GenerateRequest, Prompt},
    server::{
        ApiError, App,
        error::Names,
        tools::{Toolbox, WireChoice, WireTool},
        wire::{Body, Own, ResponseFormat, StreamOptions, asked, at_least, one, template_args},
    },
    tokenizer::chat::{Message, TemplateArgs},
};

/// The body of `POST /v1/chat/completions`.
pub(super) type ChatRequest = Body<ChatFields>;

/// What completions do not have.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(super) struct ChatFields {
    #[schema(value_type = Vec<WireMessage>, min_items = 1)]
    messages: Option<Vec<WireMessage>>,
    #[schema(minimum = 1)]
    max_completion_tokens: Option<i64>,
    response_format: Option<ResponseFormat>,
    /// Of each token: natural logarithms, out of the fused distribution under the constraint, before
    /// penalties and temperature.
    logprobs: Option<bool>,
    #[schema(minimum = 0, maximum = 20)]
    top_logprobs: Option<i64>,
    tools: Option<Vec<WireTool>>,
    #[schema(inline)]
    tool_choice: Option<WireChoice>,
    parallel_tool_calls: Option<bool>,
    #[schema(value_type = Option<Object>)]
    chat_template_kwargs: Option<TemplateArgs>,
}

/// What is asked of the engine, and how the answer is to be sent.
pub(super) struct Question {
    pub(super) generate: GenerateRequest,
    pub(super) choices: usize,
    /// `None` sends the answer in one piece.
    pub(super) stream: Option<StreamOptions>,
    pub(super) toolbox: Toolbox,
    pub(super) logprobs: bool,
    pub(super) names: Names,
}

impl ChatRequest {
    /// The field that limits the answer's tokens, if one does.
    pub(super) fn budget(&self) -> Option<&'static str> {
        let named = self.own.max_completion_tokens.map(|_| "max_completion_tokens");
        named.or(self.fields.max_tokens.map(|_| "max_tokens"))
    }

    /// Checks everything that can be checked without the models.
    pub(super) fn check(self, app: &App) -> Result<Question, ApiError> {
        let mut names = Names::default();
        names.budget = self.budget().unwrap_or(names.budget);
        let ChatFields { messages, response_format, tools, tool_choice, .. } = self.own;
        let named = self.fields.max_tokens;
        let mut common = self.fields.check(app.sampling())?;
        if let Some(most) = self.own.max_completion_tokens {
            let most = at_least("max_completion_tokens", most, 1)?;
            if common.stop.max_tokens.is_some_and(|old| old != most) {
                let old = common.stop.max_tokens.unwrap_or_default();
                let reason = format!("is {most} but `max_tokens` is {old}; send one of them");
                return Err(ApiError::invalid("max_completion_tokens", reason));
            }
            common.stop.max_tokens = Some(most);
        } else if let Some(most) = named {
            at_least("max_tokens", most, 1)?;
        }
        common.stop.max_tokens = common.stop.max_tokens.or(app.config.max_tokens);

        let functions = tools.unwrap_or_default().into_iter().enumerate().map(|(index, tool)| {
            let at = format!("tools[{index}]");
            tool.check(&at).map(|function| (format!("{at}.function"), function))
        });
        let parallel = self.own.parallel_tool_calls.unwrap_or(true);
        let toolbox = Toolbox::check(functions.collect::<Result<_, _>>()?, tool_choice, parallel)?;
        let format = response_format.map_or(Ok(None), ResponseFormat::check)?;
        let format = one(common.constraint.take(), format.map(|it| ("response_format", it)))?;
        let forced = toolbox.calls.constraint().map(|constraint| ("tools", constraint));
        let (asked_by, constraint) = forced.or(format).unzip();
        names.constraint = asked_by.unwrap_or(names.constraint);
        let wanted = self.own.logprobs.unwrap_or(common.attribution);
        let logprobs = asked(wanted, "logprobs: true", self.own.top_logprobs, &common)?;
        let messages = check_messages(messages)?;
        let template_args = template_args(self.own.chat_template_kwargs)?;
        let prompt = Prompt::Chat { messages, tools: toolbox.tools.clone(), template_args };
        Ok(Question {
            names,
            logprobs: logprobs.is_some(),
            choices: common.choices,
            stream: common.stream,
            generate: common.generate(prompt, constraint, logprobs),
            toolbox,
        })
    }
}

fn check_messages(messages: Option<Vec<WireMessage>>) -> Result<Vec<Message>, ApiError> {
    let messages = messages.ok_or_else(|| ApiError::missing("messages"))?;
    if messages.is_empty() {
        return Err(ApiError::invalid("messages", "is empty; send at least one message"));
    }
    let numbered = messages.into_iter().enumerate();
    numbered.map(|(index, message)| message.check(&format!("messages[{index}]"))).collect()
}

impl Own for ChatFields {
    const NAME: &'static str = "ChatRequest";
}
