//! A JSON schema as the set of union pieces allowed next, with `llguidance`, and as the shortest
//! way to its end, so that a text is whole when its budget is spent.
//!
//! Works on the union after fusion; knows no member.

#[cfg(test)]
mod budgets;
mod chart;
mod closing;
mod cuts;
mod lexing;
mod outline;
mod rules;
#[cfg(test)]
mod schemas;

use std::sync::Arc;

use llguidance::{
    Matcher, ParserFactory,
    api::{StopReason, TopLevelGrammar},
    toktrie::{ApproximateTokEnv, InferenceCapabilities, SimpleVob, TokEnv, TokRxInfo, TokTrie},
};
use serde_json::{Value, json};

pub use self::closing::Room;
use self::{
    chart::Chart,
    closing::{Closing, Weighed},
    outline::Outline,
};
use crate::vocab::{Piece, UnionId, UnionVocab};

/// What the generated text has to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Constraint {
    /// A JSON document that this schema accepts.
    JsonSchema(Value),
    /// A text that this regular expression matches from end to end, in the syntax of Rust's
    /// `regex` crate without look-around and back-references.
    Regex(String),
    /// A text of this grammar, in the dialect of Lark that `llguidance` reads; it begins with a
    /// rule `start`.
    Grammar(String),
    /// One of these texts.
    Choice(Vec<String>),
}

#[derive(Debug, thiserror::Error)]
pub enum ConstrainError {
    #[error("it cannot be enforced: {reason}")]
    Schema { reason: String },
    #[error(
        "nothing that it allows fits into {budget} pieces; the shortest that is known has {least}"
    )]
    Budget { least: usize, budget: usize },
    #[error("the constraint allows nothing after {committed} pieces: {reason}")]
    DeadEnd { committed: usize, reason: String },
}

/// Compiles constraints for one union vocabulary.
pub struct Grammars {
    factory: ParserFactory,
    union: Arc<UnionVocab>,
}

/// A constraint and how far the text has come in it.
///
/// How far the end is can be measured for all but grammars with lexemes that end as early as they
/// can, with parameters or with other grammars inside.
#[derive(Clone)]
pub struct Matching {
    matcher: Matcher,
    committed: Vec<UnionId>,
    union: Arc<UnionVocab>,
    /// Of a text that is JSON.
    outline: Option<Outline>,
    /// `None` if no way to the end is known.
    closing: Option<Closing>,
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

fn in_one_line(error: &str) -> String {
    const LONGEST: usize = 300;
    // The parser's state, for its own developers, follows this mark.
    let told = error.split("<state>").next().unwrap_or(error);
    let words: Vec<&str> = told.split_whitespace().collect();
    words.join(" ").chars().take(LONGEST).collect()
}

impl Matching {
    /// Takes the mass from every piece that may not come next. If the members give no mass at all
    /// to what may, all of it becomes equally probable.
    ///
    /// # Errors
    /// If nothing may come next.
    pub fn mask(&mut self, mix: &mut [f32]) -> Result<(), ConstrainError> {
        let allowed =
            self.matcher.compute_mask_or_eos().map_err(|e| self.dead_end(&e.to_string()))?;
        if allowed.is_zero() {
            return Err(self.dead_end("no piece of the union fits"));
        }
        let mut any = false;
        for (index, mass) in mix.iter_mut().enumerate() {
            if !is_allowed(&allowed, index) {
                *mass = 0.0;
            }
            any |= *mass > 0.0;
        }
        if !any {
            allowed.iter_set_entries(|index| mix[index] = 1.0);
        }
        self.bound(mix);
        Ok(())
    }

    /// Takes the mass from what makes a number longer or a nesting deeper than readers can read, or
    /// leaves it no end before, if there is anything else.
    fn bound(&mut self, mix: &mut [f32]) {
        let Some(outline) = self.outline.as_ref().filter(|outline| outline.is_near()) else {
            return;
        };
        let mut exceeds = |index: usize| {
            let Piece::Bytes(bytes) = &self.union.pieces()[index] else { return false };
            let id = UnionId(u32::try_from(index).expect("under 2^32 pieces"));
            let mut rest = || self.closing.as_mut().and_then(|closing| closing.rest(id));
            let left = outline.left_after(bytes);
            outline.would_exceed(bytes)
                || left.is_some_and(|left| rest().is_some_and(|rest| rest > left))
        };
        let (over, other): (Vec<usize>, Vec<usize>) =
            (0..mix.len()).filter(|&index| mix[index] > 0.0).partition(|&index| exceeds(index));
        if !other.is_empty() {
            over.into_iter().for_each(|index| mix[index] = 0.0);
        }
    }

    /// Whether a piece may come next.
    pub fn allows(&mut self, id: UnionId) -> bool {
        // An error is told when the mask is asked for.
        let allowed = self.matcher.compute_mask_or_eos();
        allowed.is_ok_and(|allowed| is_allowed(&allowed, id.0 as usize))
    }

    /// Makes sure that something may fit into so many pieces, `End` included where it needs one.
    ///
    /// # Errors
    /// If it is certain that nothing does.
    pub fn fit(&mut self, budget: usize) -> Result<(), ConstrainError> {
        let Some(closing) = &mut self.closing else { return Ok(()) };
        let least = closing.held().len();
        if budget < least && !closing.search(budget) {
            return Err(ConstrainError::Budget { least, budget });
        }
        Ok(())
    }

    /// Takes the mass from every piece after which the text could not end in this room, of which
    /// the piece takes its part; [`Matching::mask`] comes before.
    pub fn keep_room(&mut self, mix: &mut [f32], room: Room) {
        if let Some(closing) = &mut self.closing {
            closing.keep_room(mix, room);
        }
    }

    /// Advances by a piece that [`Matching::mask`] left, unless the text could then not end in this
    /// room, of which the piece takes its part; says whether it did.
    ///
    /// # Errors
    /// If the piece may not come next.
    pub fn commit(&mut self, id: UnionId, room: Room) -> Result<bool, ConstrainError> {
        if let Some(closing) = self.closing.as_mut().filter(|_| id != self.union.end()) {
            let (matcher, end) = (&mut self.matcher, self.union.end());
            match closing.weigh(id, room, |way| leads_to_end(matcher, way, end)) {
                Weighed::Fits(next) => closing.go(next),
                Weighed::Crowds if leads_to_end(matcher, closing.find(), end) => return Ok(false),
                Weighed::Crowds | Weighed::Lost => self.closing = None,
            }
        }
        self.consume(id).map(|()| true)
    }

    /// Advances by the next piece of a short way to the end; `None` if none is known.
    ///
    /// # Errors
    /// If it is none.
    pub fn close(&mut self) -> Result<Option<UnionId>, ConstrainError> {
        let next = self.closing.as_mut().and_then(Closing::close);
        next.map(|id| self.consume(id).map(|()| id)).transpose()
    }

    fn consume(&mut self, id: UnionId) -> Result<(), ConstrainError> {
        self.matcher.consume_token(id.0).map_err(|e| self.dead_end(&e.to_string()))?;
        self.committed.push(id);
        if let (Some(outline), Piece::Bytes(bytes)) = (&mut self.outline, self.union.piece(id)) {
            outline.extend(bytes);
        }
        Ok(())
    }

    /// The text is complete and nothing can follow.
    pub fn is_complete(&self) -> bool {
        self.matcher.is_stopped() && !self.matcher.is_error()
    }

    /// The text without its last so many bytes is complete, whatever could follow.
    pub fn is_whole_without(&self, mut last: usize) -> bool {
        let (mut pieces, mut kept) = (0, &[][..]);
        let mut committed = self.committed.iter().rev();
        while last > 0
            && let Some(id) = committed.next()
        {
            let Piece::Bytes(bytes) = self.union.piece(*id) else { return false };
            kept = &bytes[..bytes.len().saturating_sub(last)];
            last = last.saturating_sub(bytes.len());
            pieces += 1;
        }
        let mut matcher = self.matcher.clone();
        let Ok(env) = matcher.tok_env() else { return false };
        let trie = env.tok_trie();
        let part = trie.greedy_tokenize(kept);
        let way: Vec<UnionId> = part.iter().copied().map(UnionId).collect();
        // What no piece spells is left out of the part.
        trie.decode_raw(&part) == kept
            && matcher.rollback(pieces).is_ok()
            && leads_to_end(&mut matcher, &way, self.union.end())
    }

    fn dead_end(&self, error: &str) -> ConstrainError {
        ConstrainError::DeadEnd { committed: self.committed.len(), reason: in_one_line(error) }
    }
}

/// Whether these pieces may come next and the text may end after them.
fn leads_to_end(matcher: &mut Matcher, way: &[UnionId], end: UnionId) -> bool {
    let mut ids: Vec<u32> = way.iter().map(|id| id.0).collect();
    if way.last() != Some(&end) {
        ids.push(end.0);
    }
    matcher.validate_tokens(&ids).is_ok_and(|valid| valid == ids.len())
}

/// Whether the text is over after these pieces and not before.
fn ends_with(matcher: &Matcher, way: &[UnionId]) -> bool {
    let (mut matcher, ids) = (matcher.clone(), way.iter().map(|id| id.0).collect::<Vec<_>>());
    matcher.try_consume_tokens(&ids).ok() == Some(ids.len())
        && matcher.is_stopped()
        && !matcher.is_error()
}

fn is_allowed(allowed: &SimpleVob, index: usize) -> bool {
    index < allowed.len() && allowed.get(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte, and a few longer pieces that cross JSON's token borders.
    pub(super) fn union() -> UnionVocab {
        let bytes = (0..=255_u8).map(|byte| vec![byte]);
        let longer = ["{\"", "\":", "\": ", ", \"", "\"}", "true", "12", "]}"]
            .map(|s| s.as_bytes().to_vec());
        let pieces = bytes.chain(longer).map(|bytes| Some(Piece::Bytes(bytes))).collect();
        UnionVocab::build(&[pieces]).0
    }

    /// Draws pieces with a pseudo-random preference until the constraint is complete.
    fn generate(schema: &Value, seed: u64) -> String {
        generate_under(&Constraint::JsonSchema(schema.clone()), seed)
    }

    fn generate_under(constraint: &Constraint, seed: u64) -> String {
        let union = union();
        let mut matching = Grammars::new(&union).start(constraint).unwrap();
        let mut sampler = crate::sampling::Sampler::new(crate::sampling::SamplingParams {
            seed,
            ..Default::default()
        });
        let mut text = Vec::new();
        for _ in 0..2000 {
            if matching.is_complete() {
                break;
            }
            let mut mix = vec![1.0; union.size()];
            // Printable ASCII and the end are likelier, so that strings close before long.
            mix[union.end().0 as usize] = 200.0;
            let quote = union.id(&Piece::Bytes(b"\"".to_vec())).unwrap();
            mix[quote.0 as usize] = 100.0;
            matching.mask(&mut mix).unwrap();
            let id = UnionId(u32::try_from(sampler.sample(&mix).unwrap()).unwrap());
            matching.commit(id, Room::ENDLESS).unwrap();
            match union.piece(id) {
                Piece::Bytes(bytes) => text.extend_from_slice(bytes),
                Piece::End => break,
            }
        }
        String::from_utf8(text).expect("a constrained text is whole characters")
    }

    #[test]
    fn whatever_is_drawn_fits_the_schema() {
        let schema = json!({
            "type": "object",
            "properties": {
                "name": { "type": "string", "maxLength": 8 },
                "tags": { "type": "array", "items": { "enum": ["a", "b"] }, "minItems": 1, "maxItems": 3 },
                "open": { "type": "boolean" },
            },
            "required": ["name", "tags", "open"],
            "additionalProperties": false,
        });
        let validator = jsonschema::validator_for(&schema).unwrap();
        for seed in 0..20 {
            let text = generate(&schema, seed);
            let value: Value =
                serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
            assert!(validator.is_valid(&value), "{text}");
        }
    }

    #[test]
    fn it_is_known_where_a_text_might_have_ended() {
        let union = union();
        let id = |text: &str| union.id(&Piece::Bytes(text.as_bytes().to_vec())).unwrap();
        for (regex, whole) in [("(12)*", [false, true, false, true]), ("(12){3}", [false; 4])] {
            let constraint = Constraint::Regex(regex.to_owned());
            let mut matching = Grammars::new(&union).start(&constraint).unwrap();
            for piece in ["12", "1", "2", "12"] {
                assert!(matching.commit(id(piece), Room::ENDLESS).unwrap());
            }
            let without = [1, 2, 3, 4].map(|last| matching.is_whole_without(last));
            assert_eq!(without, whole, "{regex}");
        }
    }

    #[test]
    fn white_space_cannot_fill_the_text() {
        let union = union();
        let schema =
            json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]});
        let mut matching = Grammars::new(&union).start(&Constraint::JsonSchema(schema)).unwrap();
        let blank = union.id(&Piece::Bytes(b" ".to_vec())).unwrap();
        let mut mix = vec![1.0; union.size()];
        matching.mask(&mut mix).unwrap();
        assert_eq!(mix[blank.0 as usize], 0.0, "no blank before the document");
    }

    #[test]
    fn pieces_without_mass_are_still_drawn_if_nothing_else_is_allowed() {
        let union = union();
        let schema = json!({"const": true});
        let mut matching = Grammars::new(&union).start(&Constraint::JsonSchema(schema)).unwrap();
        let mut mix = vec![0.0; union.size()];
        mix[union.id(&Piece::Bytes(b"x".to_vec())).unwrap().0 as usize] = 1.0;
        matching.mask(&mut mix).unwrap();
        let left: Vec<&Piece> = union
            .pieces()
            .iter()
            .zip(&mix)
            .filter(|&(_, &p)| p > 0.0)
            .map(|(piece, _)| piece)
            .collect();
        assert_eq!(left, [&Piece::Bytes(b"t".to_vec()), &Piece::Bytes(b"true".to_vec())]);
    }

    #[test]
    fn a_schema_that_cannot_be_enforced_is_refused_with_its_reason() {
        let grammars = Grammars::new(&union());
        for schema in [
            json!({"type": "strang"}),
            json!(3),
            json!({"type": "object", "minProperties": 3, "unevaluatedProperties": false}),
            json!({"$ref": "https://example.org/elsewhere.json"}),
            json!({"$ref": "#"}),
            json!({"type": "object", "minProperties": 3}),
            json!({"type": "string", "x-guidance": {"lenient": true}}),
        ] {
            let refused = grammars.start(&Constraint::JsonSchema(schema.clone())).err();
            assert!(matches!(refused, Some(ConstrainError::Schema { .. })), "{schema}");
        }
    }

    #[test]
    fn long_chains_of_references_are_compiled_or_refused_and_end_nothing() {
        let grammars = Grammars::new(&union());
        let chain = |links: usize| {
            let mut definitions = serde_json::Map::new();
            for i in 0..links {
                let next = format!("#/$defs/d{}", i + 1);
                let link = json!({"type": "array", "items": {"$ref": next}});
                definitions.insert(format!("d{i}"), link);
            }
            definitions.insert(format!("d{links}"), json!({"type": "integer"}));
            Constraint::JsonSchema(json!({"$defs": definitions, "$ref": "#/$defs/d0"}))
        };
        assert!(grammars.start(&chain(999)).is_ok());
        let refused = grammars.start(&chain(5000)).err().unwrap().to_string();
        assert!(refused.contains("5001 `$ref`s"), "{refused}");
    }

    #[test]
    fn a_regex_a_grammar_and_a_choice_are_kept() {
        let choices = ["a|b".to_owned(), "(c)".to_owned(), "é\\".to_owned()];
        for seed in 0..20 {
            let text = generate_under(&Constraint::Regex("[ab]{2,4}c?".to_owned()), seed);
            let body = text.trim_end_matches('c');
            assert!((2..=4).contains(&body.len()) && text.len() - body.len() <= 1, "{text}");
            assert!(body.bytes().all(|byte| b"ab".contains(&byte)), "{text}");
            let lark = "start: \"<\" /[xy]/ rest\nrest: \">\" | \"!\"".to_owned();
            let text = generate_under(&Constraint::Grammar(lark), seed);
            assert!(["<x>", "<y>", "<x!", "<y!"].contains(&text.as_str()), "{text}");
            let text = generate_under(&Constraint::Choice(choices.to_vec()), seed);
            assert!(choices.contains(&text), "{text}");
        }
        let grammars = Grammars::new(&union());
        for wrong in [
            Constraint::Regex("(".to_owned()),
            Constraint::Grammar("begin: \"a\"".to_owned()),
            Constraint::Choice(Vec::new()),
        ] {
            assert!(grammars.start(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_reason_of_a_bad_pattern_is_told() {
        let schema = json!({"type": "string", "pattern": "(?=a)b"});
        let refused = Grammars::new(&union()).start(&Constraint::JsonSchema(schema)).err().unwrap();
        assert!(refused.to_string().contains("look-around"), "{refused}");
    }
}
