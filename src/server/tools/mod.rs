//! Functions that a client lets the model call: which, when, and how calls are read from its text.

mod forced;
mod reader;

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    ApiError,
    body::{Instead, StringOr},
};
use crate::tokenizer::chat::Tool;

pub(super) use reader::{Part, Reader};

/// A tool as chats name it.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(super) struct WireTool {
    #[serde(rename = "type")]
    kind: String,
    function: Option<WireFunction>,
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(super) struct WireFunction {
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) parameters: Option<Value>,
    /// The arguments of calls that have to come keep to the schema anyway, those of others may
    /// not.
    pub(super) strict: Option<bool>,
}

/// `tool_choice`: a word, or a function by name in one of the forms that clients send.
pub(super) type WireChoice = StringOr<NamedChoice>;

impl Instead for NamedChoice {
    const EXPECTED: &'static str = "a word or an object that names a function";
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(super) struct NamedChoice {
    #[serde(rename = "type")]
    kind: Option<String>,
    function: Option<NamedFunction>,
    /// As `/v1/responses` has it.
    name: Option<String>,
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
struct NamedFunction {
    name: String,
}

/// What the model may do with its tools.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Calls {
    /// It answers in text.
    Never,
    /// It may call, any number of times or once.
    Free { many: bool },
    /// It has to call this one; what it writes are the arguments.
    Named(Tool),
    /// It has to call one of them; what it writes is `{"name": ..., "arguments": ...}`.
    OneOf(Vec<Tool>),
}

/// Tools and what may be done with them, checked.
#[derive(Clone, Debug)]
pub(super) struct Toolbox {
    /// What the prompt shows.
    pub(super) tools: Vec<Tool>,
    pub(super) calls: Calls,
    /// The fields that ask for arguments by the schema where nothing holds a call to it.
    pub(super) lax: Vec<String>,
}

/// OpenAI's limit.
const MAX_TOOLS: usize = 128;

/// The type of a tool, a choice of one or a call, which stands at `at`.
pub(super) fn check_kind(kind: Option<&str>, at: &str) -> Result<(), ApiError> {
    match kind {
        None | Some("function") => Ok(()),
        Some(other) => {
            let reason = format!("is `{other}`; only `function` is served");
            Err(ApiError::unsupported(format!("{at}.type"), reason))
        }
    }
}

impl WireTool {
    /// `at` is where the tool stands.
    pub(super) fn check(self, at: &str) -> Result<WireFunction, ApiError> {
        check_kind(Some(&self.kind), at)?;
        self.function.ok_or_else(|| ApiError::invalid(format!("{at}.function"), "is required"))
    }
}

impl NamedChoice {
    fn check(self) -> Result<String, ApiError> {
        check_kind(self.kind.as_deref(), "tool_choice")?;
        let name = self.name().map(str::to_owned);
        name.ok_or_else(|| ApiError::missing("tool_choice.function"))
    }

    /// The function's.
    pub(super) fn name(&self) -> Option<&str> {
        let nested = self.function.as_ref().map(|function| function.name.as_str());
        nested.or(self.name.as_deref())
    }
}

impl WireFunction {
    fn check(self, at: &str) -> Result<Tool, ApiError> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !(1..=64).contains(&self.name.len()) || !self.name.chars().all(is_plain) {
            let reason = format!("is {:?}; use at most 64 letters, digits, `-` and `_`", self.name);
            return Err(ApiError::invalid(format!("{at}.name"), reason));
        }
        if self.parameters.as_ref().is_some_and(|schema| !schema.is_object()) {
            return Err(ApiError::invalid(format!("{at}.parameters"), "must be an object"));
        }
        let Self { name, description, parameters, .. } = self;
        Ok(Tool { name, description, parameters })
    }
}

impl Toolbox {
    /// `functions` come with where they stand.
    pub(super) fn check(
        functions: Vec<(String, WireFunction)>,
        choice: Option<WireChoice>,
        parallel: bool,
    ) -> Result<Self, ApiError> {
        if functions.len() > MAX_TOOLS {
            let reason = format!("has {} tools; at most {MAX_TOOLS} are served", functions.len());
            return Err(ApiError::invalid("tools", reason));
        }
        let strict = functions.iter().filter(|(_, function)| function.strict == Some(true));
        let lax: Vec<String> = strict.map(|(at, _)| format!("{at}.strict")).collect();
        let checked = functions.into_iter().map(|(at, function)| function.check(&at));
        let tools = checked.collect::<Result<Vec<Tool>, _>>()?;
        for (index, tool) in tools.iter().enumerate() {
            if tools[..index].iter().any(|earlier| earlier.name == tool.name) {
                let reason = format!("has two functions called `{}`", tool.name);
                return Err(ApiError::invalid("tools", reason));
            }
        }
        let calls = calls(&tools, choice, parallel)?;
        // A model that must not call is better not told what it could.
        let tools = if calls == Calls::Never { Vec::new() } else { tools };
        let lax = if matches!(calls, Calls::Free { .. }) { lax } else { Vec::new() };
        Ok(Self { tools, calls, lax })
    }
}

fn calls(tools: &[Tool], choice: Option<WireChoice>, many: bool) -> Result<Calls, ApiError> {
    let name = match choice {
        Some(StringOr::String(word)) => {
            return match word.as_str() {
                "none" => Ok(Calls::Never),
                "auto" if tools.is_empty() => Ok(Calls::Never),
                "auto" => Ok(Calls::Free { many }),
                "required" if tools.is_empty() => {
                    Err(ApiError::invalid("tool_choice", "is `required`, but there are no `tools`"))
                }
                "required" => match (tools, forced::two_definitions(tools)) {
                    ([only], _) => Ok(Calls::Named(only.clone())),
                    (_, None) => Ok(Calls::OneOf(tools.to_vec())),
                    (_, Some((index, name))) => Err(ApiError::invalid(
                        format!("tools[{index}]"),
                        format!(
                            "defines `{name}` otherwise than a tool before it; where one of them \
                             has to be called, give the definitions different names"
                        ),
                    )),
                },
                other => Err(ApiError::invalid(
                    "tool_choice",
                    format!("is `{other}`; it must be none, auto, required or name a function"),
                )),
            };
        }
        None if tools.is_empty() => return Ok(Calls::Never),
        None => return Ok(Calls::Free { many }),
        Some(StringOr::Other(named)) => named.check()?,
    };
    match tools.iter().find(|tool| tool.name == name) {
        Some(tool) => Ok(Calls::Named(tool.clone())),
        None => {
            Err(ApiError::invalid("tool_choice", format!("is `{name}`, which is no tool here")))
        }
    }
}
