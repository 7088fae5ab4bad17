//! A template's switches between TOML and what templates are given.

use serde_json::Value;
use toml::Table;

use super::check::{Problem, problem};
use crate::tokenizer::chat::{self, TemplateArgs};

/// `at` is the key of what they are set for.
pub(super) fn read(raw: Option<Table>, at: &str) -> Result<TemplateArgs, Problem> {
    let args: TemplateArgs =
        raw.unwrap_or_default().into_iter().map(|(name, value)| (name, json(value))).collect();
    match chat::taken(&args) {
        Some(name) => {
            let reason = "is no switch of a template; leave it out";
            Err(problem(format!("{at}.template_args.{name}"), reason))
        }
        None => Ok(args),
    }
}

/// A date is its text.
fn json(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(yes) => yes.into(),
        toml::Value::Datetime(date) => date.to_string().into(),
        toml::Value::Array(items) => items.into_iter().map(json).collect(),
        toml::Value::Table(fields) => {
            fields.into_iter().map(|(name, value)| (name, json(value))).collect()
        }
    }
}

/// As an inline table.
pub(super) fn print(args: &TemplateArgs) -> String {
    toml::Value::try_from(args).expect("it came out of TOML").to_string()
}
