//! Whatever ends under a schema validates against it.

use serde_json::{Value, json};

use super::{Constraint, Grammars, Room, tests::union};
use crate::{
    sampling::{Sampler, SamplingParams},
    vocab::{Piece, UnionId, UnionVocab},
};

/// Draws at most so many pieces, from a model that gives the bytes it loves this mass and the end
/// and what closes some more; `None` if the text had not ended then.
fn write(
    union: &UnionVocab,
    grammars: &Grammars,
    schema: &Value,
    (love, mass): (&str, f32),
    seed: u64,
) -> Option<String> {
    let start = grammars.start(&Constraint::JsonSchema(schema.clone()));
    let mut matching = start.unwrap_or_else(|e| panic!("{e}\n{schema}"));
    let mut sampler = Sampler::new(SamplingParams { seed, ..Default::default() });
    let wish = |piece: &Piece| match piece {
        Piece::Bytes(bytes) if bytes.iter().all(|byte| love.as_bytes().contains(byte)) => mass,
        Piece::Bytes(bytes) if bytes.iter().all(|byte| b"\"]}".contains(byte)) => 60.0,
        Piece::Bytes(_) => 1.0,
        Piece::End => 60.0,
    };
    let wishes: Vec<f32> = union.pieces().iter().map(wish).collect();
    let mut text = Vec::new();
    for _ in 0..80 {
        let mut mix = wishes.clone();
        matching.mask(&mut mix).unwrap();
        let id = UnionId(u32::try_from(sampler.sample(&mix).unwrap()).unwrap());
        matching.commit(id, Room::ENDLESS).unwrap();
        match union.piece(id) {
            Piece::Bytes(bytes) => text.extend_from_slice(bytes),
            Piece::End => return Some(String::from_utf8(text).unwrap()),
        }
        if matching.is_complete() {
            return Some(String::from_utf8(text).unwrap());
        }
    }
    None
}

#[test]
fn whatever_ends_validates_whatever_the_model_loves() {
    const LOVES: [(&str, f32); 4] =
        [("", 1.0), (" \n\t", 1e4), ("0123456789.", 30.0), ("\"\\", 1e3)];
    let union = union();
    let grammars = Grammars::new(&union);
    let schemas = collection();
    assert!(schemas.len() > 300, "{}", schemas.len());
    let mut ended = 0;
    for (index, schema) in schemas.iter().enumerate() {
        let validator = jsonschema::validator_for(schema).unwrap();
        let love = LOVES[index % 4];
        if let Some(text) = write(&union, &grammars, schema, love, index as u64) {
            ended += 1;
            let value: Value =
                serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}\n{schema}"));
            if let Err(error) = validator.validate(&value) {
                panic!("{error}: {text}\n{schema}");
            }
        }
    }
    assert!(ended > schemas.len() / 2, "{ended} of {}", schemas.len());
}

#[test]
fn a_number_ends_however_a_model_loves_digits() {
    let union = union();
    let grammars = Grammars::new(&union);
    for schema in [
        json!({"type": "integer"}),
        json!({"type": "number"}),
        json!({"type": "integer", "multipleOf": 7}),
        json!({"type": "integer", "multipleOf": 640, "minimum": -5}),
        json!({"type": "number", "multipleOf": 0.25}),
    ] {
        let validator = jsonschema::validator_for(&schema).unwrap();
        for love in ["0123456789", "0123456789.e"] {
            let text = write(&union, &grammars, &schema, (love, 1e12), 7);
            let text = text.unwrap_or_else(|| panic!("{love} did not end under {schema}"));
            let value: Value = serde_json::from_str(&text).unwrap();
            assert!(validator.is_valid(&value), "{text}: {schema}");
            assert!(text.bytes().filter(u8::is_ascii_digit).count() <= 19 + 2, "{text}");
        }
    }
}

#[test]
fn what_is_not_enforced_is_refused_by_name() {
    let grammars = Grammars::new(&union());
    for (key, schema) in [
        ("uniqueItems", json!({"type": "array", "uniqueItems": true})),
        ("contains", json!({"type": "array", "contains": {"type": "integer"}})),
        ("minContains", json!({"contains": true, "minContains": 2})),
        ("not", json!({"not": {"type": "integer"}})),
        ("if", json!({"if": {"type": "integer"}, "then": {"minimum": 3}, "else": false})),
        ("dependentSchemas", json!({"dependentSchemas": {"a": {"required": ["b"]}}})),
        ("dependentRequired", json!({"dependentRequired": {"a": ["b"]}})),
        ("dependencies", json!({"dependencies": {"a": ["b"]}})),
        ("propertyNames", json!({"type": "object", "propertyNames": {"pattern": "^a"}})),
        ("unevaluatedProperties", json!({"unevaluatedProperties": false})),
        ("unevaluatedItems", json!({"unevaluatedItems": false})),
        ("$dynamicRef", json!({"$dynamicRef": "#a", "$defs": {"x": {"$dynamicAnchor": "a"}}})),
        (
            "$recursiveRef",
            json!({"$schema": "https://json-schema.org/draft/2019-09/schema",
            "$recursiveRef": "#"}),
        ),
        ("nowhere", json!({"type": "string", "format": "nowhere"})),
        ("oneOf", json!({"oneOf": [{"type": "integer"}, {"type": "number"}]})),
        ("minProperties", json!({"type": "object", "minProperties": 2})),
    ] {
        let nested = json!({"type": "array", "items": schema});
        for schema in [schema, nested] {
            let constraint = Constraint::JsonSchema(schema.clone());
            let refused = grammars.start(&constraint).err();
            let refused = refused.unwrap_or_else(|| panic!("taken: {schema}")).to_string();
            assert!(refused.contains(key), "{schema}: {refused}");
        }
    }
}

/// Leaves, and each in four places.
pub(super) fn collection() -> Vec<Value> {
    let leaves = leaves();
    let placed = leaves
        .iter()
        .enumerate()
        .flat_map(|(index, leaf)| (0..4).map(move |place| placed(index * 4 + place, leaf)));
    leaves.iter().cloned().chain(placed).collect()
}

fn leaves() -> Vec<Value> {
    let mut leaves = vec![
        json!({}),
        json!(true),
        json!({"type": "null"}),
        json!({"type": "boolean"}),
        json!({"type": "integer"}),
        json!({"type": "number"}),
        json!({"type": "string"}),
        json!({"type": "array"}),
        json!({"type": "object"}),
        json!({"type": ["string", "null"]}),
        json!({"type": ["integer", "null", "boolean"], "minimum": 3}),
        json!({"type": ["array", "number"], "maxItems": 2, "maximum": -1}),
        json!({"const": "sch\u{f6}n \u{1f980} \"x\" \\ \n"}),
        json!({"const": {"b": [1, 2.5, null], "a": "\u{4f60}"}}),
        json!({"const": -17}),
        json!({"const": 1.5}),
        json!({"enum": ["red", "green", "redder", "\u{e9}t\u{e9}"]}),
        json!({"enum": [1, "1", null, true, [1], {"k": 1}]}),
        json!({"enum": ["a"], "type": "string"}),
    ];
    for (low, high) in
        [(0, 9), (-5, 5), (10, 10), (17, 1042), (-1000, -7), (0, i64::from(u32::MAX))]
    {
        leaves.push(json!({"type": "integer", "minimum": low, "maximum": high}));
        leaves.push(json!({"type": "number", "minimum": low, "maximum": high}));
    }
    for bound in [0.0, 0.5, -3.25, 99.5] {
        leaves.push(json!({"type": "number", "exclusiveMinimum": bound}));
        leaves.push(json!({"type": "number", "exclusiveMaximum": bound}));
        leaves.push(json!({"type": "number", "minimum": bound, "exclusiveMaximum": bound + 1.0}));
    }
    for factor in [1, 3, 7, 10, 64] {
        leaves.push(json!({"type": "integer", "multipleOf": factor, "minimum": 1, "maximum": 200}));
    }
    for (least, most) in [(0, 0), (0, 1), (1, 1), (2, 5), (20, 30)] {
        leaves.push(json!({"type": "string", "minLength": least, "maxLength": most}));
    }
    leaves.push(json!({"type": "string", "minLength": 12}));
    for pattern in [
        "^[a-z]+$",
        "^[A-Z]{3}-[0-9]{4}$",
        "^(foo|ba+r)?$",
        "x",
        "^\\d{3}",
        "[.!]$",
        "^\u{e9}[\u{4e00}-\u{9fff}]*$",
        "^[a-z]+@[a-z]+\\.[a-z]{2,4}$",
        "^$",
    ] {
        leaves.push(json!({"type": "string", "pattern": pattern}));
    }
    leaves.push(json!({"type": "string", "pattern": "^[ab]*$", "minLength": 3, "maxLength": 4}));
    for format in ["date", "time", "date-time", "email", "uuid", "ipv4", "ipv6", "hostname"] {
        leaves.push(json!({"type": "string", "format": format}));
    }
    leaves
}

/// A leaf in a place; which place goes by the number.
fn placed(place: usize, leaf: &Value) -> Value {
    let key = ["a", "\u{e9}", "with blank", "\u{1f600}", "q\"\\"][place % 5];
    match place % 9 {
        0 => json!({"type": "array", "items": leaf, "minItems": place % 4, "maxItems": 4}),
        1 => json!({"type": "array", "prefixItems": [leaf, {"type": "null"}], "minItems": 2,
            "items": false}),
        2 => json!({"type": "object", "properties": {key: leaf}, "required": [key],
            "additionalProperties": false}),
        3 => json!({"type": "object", "properties": {key: leaf, "o": {"type": "integer"}},
            "required": ["o"]}),
        4 => json!({"type": "object", "properties": {"n": {"type": "null"}},
            "additionalProperties": leaf, "required": ["n", "more"]}),
        5 => json!({"anyOf": [{"type": "object", "properties": {"kind": {"const": "leaf"},
            "value": leaf}, "required": ["kind", "value"], "additionalProperties": false}, leaf]}),
        6 => json!({"$defs": {"leaf": leaf, "pair": {"type": "array",
            "items": {"$ref": "#/$defs/leaf"}, "minItems": 2, "maxItems": 2}},
            "$ref": "#/$defs/pair"}),
        7 => json!({"$defs": {"tree": {"type": "object", "properties": {"value": leaf,
            "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
            "required": ["value", "children"], "additionalProperties": false}},
            "$ref": "#/$defs/tree"}),
        _ => json!({"type": "object", "patternProperties": {"^x_": leaf},
            "additionalProperties": false}),
    }
}
