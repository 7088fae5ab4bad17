//! A constraint into what `llguidance` follows; what could not be held is refused.

use std::sync::Arc;

use llguidance::{
    Matcher, ParserFactory,
    api::{StopReason, TopLevelGrammar},
    toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie},
};
use serde_json::{Value, json};

use super::{
    ConstrainError, Constraint, Matching, chart::Chart, closing::Closing, outline::Outline,
};
use crate::vocab::{Piece, UnionId, UnionVocab};

/// Compiles constraints for one union vocabulary.
pub struct Grammars {
    factory: ParserFactory,
    union: Arc<UnionVocab>,
}

impl Grammars {
    /// Builds the trie of the union's pieces; some hundred milliseconds for a real vocabulary.
    pub fn new(union: &UnionVocab) -> Self {
        let words: Vec<Vec<u8>> = union
            .pieces()
            .iter()
            .map(|piece| match piece {
                Piece::Bytes(bytes) => bytes.clone(),
                Piece::End => [&[TokTrie::SPECIAL_TOKEN_MARKER], &b"<end>"[..]].concat(),
            })
            .collect();
        let size = u32::try_from(words.len()).expect("a union has fewer than 2^32 pieces");
        let trie = TokTrie::from(&TokRxInfo::new(size, union.end().0), &words);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let capabilities = InferenceCapabilities::default();
        let slices = llguidance::earley::SlicedBiasComputer::json_slices();
        let mut factory = ParserFactory::new(&env, capabilities, &slices)
            .expect("the library's own slices compile for every vocabulary");
        factory.quiet();
        Self { factory, union: Arc::new(union.clone()) }
    }

    /// # Errors
    /// If the schema is not one, or uses what cannot be enforced token by token, or nothing can
    /// meet it.
    pub fn start(&self, constraint: &Constraint) -> Result<Matching, ConstrainError> {
        let grammar = match constraint {
            Constraint::JsonSchema(schema) => {
                check(schema)?;
                TopLevelGrammar::from_json_schema(compact(schema)?)
            }
            Constraint::Regex(regex) => TopLevelGrammar::from_regex(regex),
            Constraint::Grammar(lark) => TopLevelGrammar::from_lark(lark.clone()),
            Constraint::Choice(texts) if texts.is_empty() => {
                let reason = "there is nothing to choose from".to_owned();
                return Err(ConstrainError::Schema { reason });
            }
            Constraint::Choice(texts) => {
                let texts: Vec<String> = texts.iter().map(|text| escaped(text)).collect();
                TopLevelGrammar::from_regex(&texts.join("|"))
            }
        };
        // The compiler follows references by recursion; an overflow would end the process.
        let compiled = std::thread::scope(|scope| {
            let outline = matches!(constraint, Constraint::JsonSchema(_)).then(Outline::default);
            let compile = move || self.compile(grammar, outline);
            let thread = std::thread::Builder::new().stack_size(STACK);
            let compiling =
                thread.spawn_scoped(scope, compile).map_err(|error| error.to_string())?;
            compiling.join().unwrap_or_else(|_| Err("its compiler panicked".to_owned()))
        });
        compiled.map_err(|reason| ConstrainError::Schema { reason })
    }

    fn compile(
        &self,
        grammar: TopLevelGrammar,
        outline: Option<Outline>,
    ) -> Result<Matching, String> {
        let parser = self.factory.create_parser(grammar);
        let limits = self.factory.limits();
        let chart =
            parser.as_ref().ok().and_then(|parser| Chart::new(parser.parser.grammar(), limits));
        let mut matcher = Matcher::new(parser);
        if let Some(error) = matcher.get_error() {
            return Err(in_one_line(&error));
        }
        // Some of what cannot be met shows only when the first piece is asked for.
        let first = matcher.compute_mask_or_eos();
        if matcher.stop_reason() == StopReason::NoExtensionBias {
            return Err("no piece of the models begins what would meet it".to_owned());
        }
        let first = first.map_err(|error| in_one_line(&error.to_string()))?;
        if first.is_zero() {
            return Err("nothing can meet it".to_owned());
        }
        let (union, pieces) = (self.union.clone(), self.factory.tok_env().clone());
        let closing = chart.and_then(|chart| Closing::new(chart, union.clone(), pieces));
        let closing = closing.filter(|closing| ends_with(&matcher, closing.held()));
        Ok(Matching { matcher, committed: Vec::new(), union, outline, closing })
    }
}

/// Whether the text is over after these pieces and not before.
fn ends_with(matcher: &Matcher, way: &[UnionId]) -> bool {
    let (mut matcher, ids) = (matcher.clone(), way.iter().map(|id| id.0).collect::<Vec<_>>());
    matcher.try_consume_tokens(&ids).ok() == Some(ids.len())
        && matcher.is_stopped()
        && !matcher.is_error()
}

/// The regular expression of this text alone.
fn escaped(text: &str) -> String {
    let mut regex = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$#&-~/".contains(c) {
            regex.push('\\');
        }
        regex.push(c);
    }
    regex
}

/// What compiling a schema of [`MOST_REFERENCES`] in one chain needs many times over.
const STACK: usize = 256 << 20;
const MOST_REFERENCES: usize = 1000;
/// What a schema may set of the compiler's options: how its document is laid out, not whether its
/// keywords count.
const LAYOUT: [&str; 5] = [
    "whitespace_flexible",
    "whitespace_pattern",
    "item_separator",
    "key_separator",
    "json_allowed_escapes",
];

/// Refuses what the compiler would take and could not hold.
fn check(schema: &Value) -> Result<(), ConstrainError> {
    let refuse = |reason: String| Err(ConstrainError::Schema { reason });
    let (mut references, mut left) = (0, vec![schema]);
    while let Some(value) = left.pop() {
        match value {
            Value::Array(items) => left.extend(items),
            Value::Object(fields) => {
                references += usize::from(fields.get("$ref").is_some_and(Value::is_string));
                let least = fields.get("minProperties").and_then(Value::as_u64);
                let open = fields.contains_key("patternProperties")
                    || fields.get("additionalProperties") != Some(&Value::Bool(false));
                if open && least.is_some_and(|least| least > 1) {
                    return refuse(
                        "`minProperties` above 1 needs `additionalProperties: false` and no \
                         `patternProperties`, for a name that is open could come twice"
                            .to_owned(),
                    );
                }
                left.extend(fields.values());
            }
            _ => {}
        }
    }
    if references > MOST_REFERENCES {
        return refuse(format!("it has {references} `$ref`s; at most {MOST_REFERENCES} are taken"));
    }
    Ok(())
}

/// The schema, with white space held to at most one blank after a colon or comma, unless its own
/// `x-guidance` says otherwise: models of any size can otherwise fill their budget with it.
fn compact(schema: &Value) -> Result<Value, ConstrainError> {
    let mut schema = match schema {
        Value::Bool(true) => json!({}),
        Value::Object(_) => schema.clone(),
        other => {
            let reason = format!("a schema is an object, not `{other}`");
            return Err(ConstrainError::Schema { reason });
        }
    };
    let mut options = json!({
        "whitespace_flexible": false,
        "item_separator": ", ?",
        "key_separator": ": ?",
    });
    if let (Some(given), Some(options)) = (schema.get("x-guidance"), options.as_object_mut()) {
        let given = given.as_object().ok_or_else(|| ConstrainError::Schema {
            reason: format!("`x-guidance` is an object of options, not `{given}`"),
        })?;
        if let Some(other) = given.keys().find(|key| !LAYOUT.contains(&key.as_str())) {
            let reason = format!("`x-guidance` may set {}, not `{other}`", LAYOUT.join(", "));
            return Err(ConstrainError::Schema { reason });
        }
        options.extend(given.clone());
    }
    schema["x-guidance"] = options;
    Ok(schema)
}

/// Without the parser's state, and not too long.
pub(super) fn in_one_line(error: &str) -> String {
    const LONGEST: usize = 300;
    // The parser's state, for its own developers, follows this mark.
    let told = error.split("<state>").next().unwrap_or(error);
    let words: Vec<&str> = told.split_whitespace().collect();
    words.join(" ").chars().take(LONGEST).collect()
}
