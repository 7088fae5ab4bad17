//! The request on the wire, and its check into a [`GenerateRequest`].

use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::input::Input;
use crate::{
    engine::{GenerateRequest, Prompt},
    server::{
        ApiError, App,
        body::from_value,
        error::Names,
        tools::{Toolbox, WireChoice, WireFunction},
        wire::{Body, Own, Rest, any_object, at_least, one, schema_of, template_args},
    },
    tokenizer::chat::TemplateArgs,
};

/// The body of `POST /v1/responses`.
pub(super) type ResponsesRequest = Body<OwnFields>;

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = ResponsesFields)]
pub(super) struct OwnFields {
    #[schema(value_type = Input)]
    input: Option<Input>,
    instructions: Option<String>,
    #[schema(minimum = 1)]
    max_output_tokens: Option<i64>,
    text: Option<TextOptions>,
    tools: Option<Vec<Value>>,
    tool_choice: Option<Value>,
    parallel_tool_calls: Option<bool>,
    #[schema(value_type = Option<Object>)]
    chat_template_kwargs: Option<TemplateArgs>,
    metadata: Option<Value>,
    #[serde(flatten)]
    #[schema(ignore)]
    rest: Rest,
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
    pub(super) echo: Echo,
    pub(super) names: Names,
}

/// What a response repeats of its request.
pub(super) struct Echo {
    pub(super) instructions: Option<String>,
    pub(super) max_output_tokens: Option<usize>,
    pub(super) metadata: Value,
    pub(super) parallel_tool_calls: bool,
    pub(super) temperature: f32,
    pub(super) top_p: f32,
    pub(super) format: Value,
    pub(super) tool_choice: Value,
    pub(super) tools: Vec<Value>,
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
        let choice =
            tool_choice.as_ref().map(|choice| from_value::<WireChoice>(choice, "tool_choice"));
        let parallel = self.own.parallel_tool_calls.unwrap_or(true);
        let toolbox = Toolbox::check(functions(&tools)?, choice.transpose()?, parallel)?;
        let format = text.and_then(|text| text.format);
        let echoed = format.as_ref().map_or_else(|| json!({ "type": "text" }), TextFormat::echo);
        let format = format.map_or(Ok(None), TextFormat::check)?;
        let format = one(common.constraint.take(), format.map(|it| ("text.format", it)))?;
        let forced = toolbox.calls.constraint().map(|constraint| ("tools", constraint));
        let (asked_by, constraint) = forced.or(format).unzip();
        let input = input.ok_or_else(|| ApiError::missing("input"))?;
        let messages = input.check(instructions.as_deref())?;
        let template_args = template_args(self.own.chat_template_kwargs)?;
        let prompt = Prompt::Chat { messages, tools: toolbox.tools.clone(), template_args };
        Ok(Question {
            names: Names { prompt: "input", budget, constraint: asked_by.unwrap_or("text.format") },
            stream: common.stream.is_some(),
            echo: Echo {
                instructions,
                max_output_tokens: named,
                metadata: self.own.metadata.unwrap_or_else(|| json!({})),
                parallel_tool_calls: parallel,
                temperature: common.sampling.temperature,
                top_p: common.sampling.top_p,
                format: echoed,
                tool_choice: tool_choice.unwrap_or_else(|| json!("auto")),
                tools,
            },
            generate: common.generate(prompt, constraint, None),
            toolbox,
        })
    }
}

fn functions(tools: &[Value]) -> Result<Vec<(String, WireFunction)>, ApiError> {
    let one = |(index, tool): (usize, &Value)| {
        let at = format!("tools[{index}]");
        let kind = tool.get("type").and_then(Value::as_str).unwrap_or_default();
        if kind != "function" {
            let reason = format!("is `{kind}`; only `function` is served");
            return Err(ApiError::unsupported(format!("{at}.type"), reason));
        }
        // Without a `function` around its fields.
        let function = from_value(tool, &at)?;
        Ok((at, function))
    };
    tools.iter().enumerate().map(one).collect()
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

    fn rest(&self) -> &Rest {
        &self.rest
    }
}
