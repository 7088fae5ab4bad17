//! JSON that keeps a schema, asked for with the constraint and without.
//!
//! Whether it does is judged by `jsonschema`, which knows nothing of the grammar that the
//! constraint is enforced by.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Outcome, TaskError, exact::greedy};
use crate::{
    constrain::Constraint,
    engine::Prompt,
    eval::{
        System,
        ask::{Asker, Writing},
        stats::Part,
    },
    tokenizer::chat::{Message, Role},
};

pub(super) async fn solve(
    asker: &Asker,
    system: &System,
    (instruction, schema): (&str, &str),
    max_tokens: usize,
) -> Result<Outcome, TaskError> {
    let bad = |reason: String| TaskError::Schema { reason };
    let parsed: Value = serde_json::from_str(schema).map_err(|error| bad(error.to_string()))?;
    let judge = jsonschema::validator_for(&parsed).map_err(|error| bad(error.to_string()))?;
    let prompt = format!(
        "{}\n\nAnswer with JSON alone, without any other text, that keeps this JSON schema:\n{schema}",
        instruction.trim()
    );
    let writing = |constraint| Writing {
        prompt: Prompt::chat(vec![Message::new(Role::User, prompt.clone())]),
        max_tokens,
        stop: Vec::new(),
        constraint,
        sampling: greedy(),
    };
    let (held, free) = futures::future::try_join(
        asker.write(system, writing(Some(Constraint::JsonSchema(parsed.clone())))),
        asker.write(system, writing(None)),
    )
    .await?;
    let valid = |text: &str| {
        let value = serde_json::from_str(unfenced(text));
        Part::right(value.is_ok_and(|value| judge.is_valid(&value)))
    };
    let gated = held.usage.gated.zip(free.usage.gated).map(|(held, free)| held + free);
    Ok(Outcome {
        scores: BTreeMap::from([
            ("valid, constrained", valid(&held.text)),
            ("valid, free", valid(&free.text)),
        ]),
        tokens: held.usage.completion_tokens + free.usage.completion_tokens,
        prompt_tokens: held.usage.prompt_tokens,
        gated,
        detail: json!({ "free": free.text, "schema": parsed }),
        output: held.text,
        prompt,
    })
}

/// What stands inside a fence of Markdown, if one is around everything: chat models are wont to
/// put one, and who reads their JSON to take it off.
fn unfenced(text: &str) -> &str {
    let text = text.trim();
    let inside = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    match inside {
        Some(inside) => inside.strip_prefix("json").unwrap_or(inside).trim(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_around_everything_is_taken_off() {
        assert_eq!(unfenced("```json\n{\"a\": 1}\n```\n"), "{\"a\": 1}");
        assert_eq!(unfenced("```\n[]\n```"), "[]");
        assert_eq!(unfenced(" {} "), "{}");
        assert_eq!(unfenced("so: ```json\n{}\n```"), "so: ```json\n{}\n```");
    }
}
