//! The request on the wire, and its check into a [`GenerateRequest`].

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::input::{Input, messages};
use crate::{
    engine::{GenerateRequest, Prompt},
    server::{
        ApiError, App,
        body::StringOr,
        error::Names,
        tools::{Toolbox, WireChoice, WireFunction, check_kind},
        wire::{Body, Own, any_object, asked, at_least, one, schema_of, template_args},
    },
    tokenizer::chat::TemplateArgs,
};

/// The body of `POST /v1/responses`.
pub(super) type ResponsesRequest = Body<OwnFields>;

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = ResponsesFields)]
pub(super) struct OwnFields {
    #[schema(inline)]
    input: Option<Input>,
    instructions: Option<String>,
    #[schema(minimum = 1)]
    max_output_tokens: Option<i64>,
    text: Option<TextOptions>,
    tools: Option<Vec<FlatTool>>,
    #[schema(inline)]
    tool_choice: Option<WireChoice>,
    parallel_tool_calls: Option<bool>,
    /// With `message.output_text.logprobs` texts have their tokens' log-probabilities: out of the
    /// fused distribution under the constraint, before penalties and temperature.
    include: Option<Vec<String>>,
    #[schema(minimum = 0, maximum = 20)]
    top_logprobs: Option<i64>,
    #[schema(value_type = Option<Object>)]
    chat_template_kwargs: Option<TemplateArgs>,
    metadata: Option<Value>,
}

/// A tool without a `function` around its fields.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub(super) struct FlatTool {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    parameters: Option<Value>,
    strict: Option<bool>,
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
struct TextOptions {
    format: Option<TextFormat>,
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
struct TextFormat {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    schema: Option<Value>,
    strict: Option<bool>,
}

/// What is asked of the engine, and how the answer is to be sent.
pub(super) struct Question {
    pub(super) generate: GenerateRequest,
    pub(super) toolbox: Toolbox,
    pub(super) stream: bool,
    pub(super) logprobs: bool,
    pub(super) echo: Echo,
    pub(super) names: Names,
}

/// What a response repeats of its request.
pub(super) struct Echo {
    pub(super) instructions: Option<String>,
    pub(super) max_output_tokens: Option<usize>,
    pub(super) top_logprobs: usize,
    pub(super) metadata: Value,
    pub(super) parallel_tool_calls: bool,
    pub(super) temperature: f32,
    pub(super) top_p: f32,
    pub(super) format: Value,
    pub(super) tool_choice: Value,
    pub(super) tools: Vec<FlatTool>,
}

impl ResponsesRequest {
    /// Checks everything that can be checked without the models.
    pub(super) fn check(self, app: &App) -> Result<Question, ApiError> {
        let OwnFields { input, instructions, text, tools, tool_choice, .. } = self.own;
        let mut common = self.fields.check(app.sampling())?;
        if common.choices != 1 {
            return Err(ApiError::invalid("n", "must be 1: a response is one"));
        }
        let named = self.own.max_output_tokens;
        let named = named.map(|most| at_least("max_output_tokens", most, 1)).transpose()?;
        let budget = match (named, common.stop.max_tokens) {
            (None, Some(_)) => "max_tokens",
            _ => "max_output_tokens",
        };
        common.stop.max_tokens = named.or(common.stop.max_tokens).or(app.config.max_tokens);

        let tools = tools.unwrap_or_default();
        let parallel = self.own.parallel_tool_calls.unwrap_or(true);
        let echoed_choice = echo_choice(tool_choice.as_ref());
        let toolbox = Toolbox::check(functions(&tools)?, tool_choice, parallel)?;
        let format = text.and_then(|text| text.format);
        let echoed = format.as_ref().map_or_else(|| json!({ "type": "text" }), TextFormat::echo);
        let format = format.map_or(Ok(None), TextFormat::check)?;
        let format = one(common.constraint.take(), format.map(|it| ("text.format", it)))?;
        let forced = toolbox.calls.constraint().map(|constraint| ("tools", constraint));
        let (asked_by, constraint) = forced.or(format).unzip();
        let wanted = includes_logprobs(self.own.include.as_deref())? || common.attribution;
        let by = format!("include: [\"{LOGPROBS}\"]");
        let logprobs = asked(wanted, &by, self.own.top_logprobs, &common)?;
        let input = input.ok_or_else(|| ApiError::missing("input"))?;
        let messages = messages(input, instructions.as_deref())?;
        let template_args = template_args(self.own.chat_template_kwargs)?;
        let prompt = Prompt::Chat { messages, tools: toolbox.tools.clone(), template_args };
        Ok(Question {
            names: Names { prompt: "input", budget, constraint: asked_by.unwrap_or("text.format") },
            stream: common.stream.is_some(),
            echo: Echo {
                instructions,
                max_output_tokens: named,
                top_logprobs: logprobs.as_ref().map_or(0, |asked| asked.top),
                metadata: self.own.metadata.unwrap_or_else(|| json!({})),
                parallel_tool_calls: parallel,
                temperature: common.sampling.temperature,
                top_p: common.sampling.top_p,
                format: echoed,
                tool_choice: echoed_choice,
                tools,
            },
            logprobs: logprobs.is_some(),
            generate: common.generate(prompt, constraint, logprobs),
            toolbox,
        })
    }
}

fn functions(tools: &[FlatTool]) -> Result<Vec<(String, WireFunction)>, ApiError> {
    let one = |(index, tool): (usize, &FlatTool)| {
        let at = format!("tools[{index}]");
        let FlatTool { kind, name, description, parameters, strict } = tool.clone();
        check_kind(Some(&kind), &at)?;
        let name = name.ok_or_else(|| ApiError::missing(format!("{at}.name")))?;
        Ok((at, WireFunction { name, description, parameters, strict }))
    };
    tools.iter().enumerate().map(one).collect()
}

/// What `include` may ask for.
const LOGPROBS: &str = "message.output_text.logprobs";

fn includes_logprobs(include: Option<&[String]>) -> Result<bool, ApiError> {
    let include = include.unwrap_or_default();
    match include.iter().position(|asked| asked != LOGPROBS) {
        Some(index) => {
            let reason = format!("is `{}`; only `{LOGPROBS}` is served", include[index]);
            Err(ApiError::unsupported(format!("include[{index}]"), reason))
        }
        None => Ok(!include.is_empty()),
    }
}

fn echo_choice(choice: Option<&WireChoice>) -> Value {
    match choice {
        None => json!("auto"),
        Some(StringOr::String(word)) => json!(word),
        Some(StringOr::Other(named)) => json!({ "type": "function", "name": named.name() }),
    }
}

impl TextFormat {
    fn check(self) -> Result<Option<crate::constrain::Constraint>, ApiError> {
        match self.kind.as_str() {
            "text" => Ok(None),
            "json_object" => Ok(Some(any_object())),
            "json_schema" => schema_of(self.schema, "text.format.schema").map(Some),
            other => Err(ApiError::invalid(
                "text.format.type",
                format!("is `{other}`; it must be text, json_object or json_schema"),
            )),
        }
    }

    fn echo(&self) -> Value {
        let Self { kind, name, schema, strict } = self;
        match schema {
            Some(schema) => {
                json!({ "type": kind, "name": name, "schema": schema, "strict": strict })
            }
            None => json!({ "type": kind }),
        }
    }
}

impl Own for OwnFields {
    const NAME: &'static str = "ResponsesRequest";
}
