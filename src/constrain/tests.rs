//! What is drawn under each kind of constraint, and what is refused.

use serde_json::json;

use super::*;

/// Every byte, and a few longer pieces that cross JSON's token borders.
pub(super) fn union() -> UnionVocab {
    let bytes = (0..=255_u8).map(|byte| vec![byte]);
    let longer =
        ["{\"", "\":", "\": ", ", \"", "\"}", "true", "12", "]}"].map(|s| s.as_bytes().to_vec());
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
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
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
