//! Whatever has to end within a budget does, and is whole.

use serde_json::{Value, json};

use super::{ConstrainError, Constraint, Grammars, Matching, Room, schemas, tests::union};
use crate::{
    sampling::{Sampler, SamplingParams},
    vocab::{Piece, UnionId, UnionVocab},
};

/// What a model would rather write: texts of these bytes, so much more than others.
struct Love {
    bytes: &'static str,
    mass: f32,
}

/// Never closes; always opens; never ends a number; writes anything.
const LOVES: [Love; 4] = [
    Love { bytes: "abcdefghijklmnopqrstuvwxyz \\", mass: 1e9 },
    Love { bytes: "{[,\":", mass: 1e9 },
    Love { bytes: "0123456789.-", mass: 1e9 },
    Love { bytes: "", mass: 1.0 },
];

impl Love {
    fn masses(&self, union: &UnionVocab) -> Vec<f32> {
        let mass = |piece: &Piece| match piece {
            Piece::Bytes(bytes) if bytes.iter().all(|b| self.bytes.as_bytes().contains(b)) => {
                self.mass
            }
            Piece::Bytes(_) => 1.0,
            Piece::End => 1e-9,
        };
        union.pieces().iter().map(mass).collect()
    }
}

/// The next piece, as a step of an ensemble chooses it.
fn choose(matching: &mut Matching, wishes: &[f32], sampler: &mut Sampler, room: Room) -> UnionId {
    for scarce in [false, true] {
        let mut mix = wishes.to_vec();
        matching.mask(&mut mix).unwrap();
        if scarce {
            matching.keep_room(&mut mix, room);
        }
        let id = UnionId(u32::try_from(sampler.sample(&mix).unwrap()).unwrap());
        if matching.commit(id, room).unwrap() {
            return id;
        }
    }
    matching.close().unwrap().expect("a way is held")
}

/// Writes with so many pieces; `None` if that was not enough.
fn write(
    union: &UnionVocab,
    mut matching: Matching,
    (wishes, seed): (&[f32], u64),
    budget: usize,
) -> Option<String> {
    let mut sampler = Sampler::new(SamplingParams { seed, ..Default::default() });
    let mut text = Vec::new();
    for pieces in (1..=budget).rev() {
        let room = Room { pieces, bytes: usize::MAX };
        match union.piece(choose(&mut matching, wishes, &mut sampler, room)) {
            Piece::Bytes(bytes) => text.extend_from_slice(bytes),
            Piece::End => return Some(String::from_utf8(text).unwrap()),
        }
        if matching.is_complete() {
            return Some(String::from_utf8(text).unwrap());
        }
    }
    None
}

fn least(matching: &mut Matching) -> usize {
    match matching.fit(0) {
        Err(ConstrainError::Budget { least, budget: 0 }) => least,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_schema_is_closed_at_every_budget_from_its_least_up() {
    let union = union();
    let grammars = Grammars::new(&union);
    let wishes = LOVES.map(|love| love.masses(&union));
    for (index, schema) in schemas::collection().iter().enumerate() {
        let validator = jsonschema::validator_for(schema).unwrap();
        let start = grammars.start(&Constraint::JsonSchema(schema.clone())).unwrap();
        let known = least(&mut start.clone());
        // In other pieces there may be a text that takes fewer of them.
        let fits = |budget: &usize| start.clone().fit(*budget).is_ok();
        let least = (1..=known).find(fits).unwrap();
        for budget in least..known + 9 {
            let mut matching = start.clone();
            matching.fit(budget).unwrap();
            let wishes = &wishes[(index + budget) % LOVES.len()];
            let text = write(&union, matching, (wishes, index as u64), budget);
            let text = text.unwrap_or_else(|| panic!("not over at {budget}: {schema}"));
            let value: Value =
                serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}\n{schema}"));
            if let Err(error) = validator.validate(&value) {
                panic!("{error}: {text}\n{schema}");
            }
        }
    }
}

#[test]
fn regexes_grammars_choices_and_spaced_schemas_are_closed_too() {
    let union = union();
    let grammars = Grammars::new(&union);
    let spaced = json!({
        "type": "object",
        "properties": { "a": { "type": "array", "items": { "type": "number" }, "minItems": 2 } },
        "required": ["a"],
        "x-guidance": { "whitespace_flexible": true },
    });
    for (constraint, known) in [
        (Constraint::Regex("[a-z]+( [a-z]+){3,}\\.".to_owned()), 8),
        (Constraint::Regex("(ab)*".to_owned()), 1),
        (Constraint::Grammar("start: \"<\" item+ \">\"\nitem: /[a-z]{3}/ \";\"".to_owned()), 6),
        (Constraint::Choice(vec!["abcdef".to_owned(), "true".to_owned()]), 1),
        (Constraint::JsonSchema(spaced), 8),
    ] {
        let start = grammars.start(&constraint).unwrap();
        assert_eq!(least(&mut start.clone()), known, "{constraint:?}");
        assert!(start.clone().fit(known - 1).is_err());
        for budget in known..known + 12 {
            for love in &LOVES {
                let wishes = love.masses(&union);
                let text = write(&union, start.clone(), (&wishes, budget as u64), budget).unwrap();
                let mut whole = start.clone();
                for byte in text.bytes() {
                    let id = union.id(&Piece::Bytes(vec![byte])).unwrap();
                    assert!(whole.allows(id), "{text} {constraint:?}");
                    whole.commit(id, Room::ENDLESS).unwrap();
                }
                assert!(whole.is_complete() || whole.allows(union.end()), "{text}");
            }
        }
    }
}

#[test]
fn a_longer_text_of_fewer_pieces_is_not_refused() {
    let bytes = (0..=255_u8).map(|byte| vec![byte]).chain([b"\"hello\"".to_vec()]);
    let pieces = bytes.map(|bytes| Some(Piece::Bytes(bytes))).collect();
    let (union, _) = UnionVocab::build(&[pieces]);
    let schema = json!({ "enum": ["xq", "hello"] });
    let start = Grammars::new(&union).start(&Constraint::JsonSchema(schema)).unwrap();
    assert_eq!(least(&mut start.clone()), 4, "the shortest");
    let wishes = LOVES[0].masses(&union);
    for budget in 1..6 {
        let mut matching = start.clone();
        matching.fit(budget).unwrap();
        let text = write(&union, matching, (&wishes, 0), budget).unwrap();
        assert!(["\"hello\"", "\"xq\""].contains(&text.as_str()));
    }
}

#[test]
fn what_cannot_be_measured_is_taken_and_may_be_cut() {
    let union = union();
    let grammars = Grammars::new(&union);
    let lazy = "start: text \"!\"\ntext[lazy]: /.*?[.]/".to_owned();
    let mut matching = grammars.start(&Constraint::Grammar(lazy)).unwrap();
    matching.fit(1).unwrap();
    let wishes = LOVES[0].masses(&union);
    assert_eq!(write(&union, matching, (&wishes, 0), 5), None);
}

#[test]
fn what_is_likely_is_written_for_as_long_as_there_is_room() {
    let union = union();
    let grammars = Grammars::new(&union);
    let start = grammars.start(&Constraint::JsonSchema(json!({ "type": "string" }))).unwrap();
    let wishes = LOVES[0].masses(&union);
    let text = write(&union, start, (&wishes, 3), 40).unwrap();
    assert!(text.len() >= 40, "no piece of the room is given away: {text}");
}
