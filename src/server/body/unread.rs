//! The fields of a body that its type does not read, at any depth.

use std::{collections::HashSet, fmt};

use serde_ignored::Path;
use serde_json::Value;

/// Where a value stands in a body: the keys and numbers that lead to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) struct Place(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    Key(String),
    Index(usize),
}

impl Place {
    pub(in crate::server) fn find<'v>(&self, body: &'v Value) -> Option<&'v Value> {
        self.0.iter().try_fold(body, |value, step| match step {
            Step::Key(key) => value.get(key),
            Step::Index(index) => value.get(index),
        })
    }

    /// The keys alone, as what is true of every item of a list has them.
    pub(in crate::server) fn keys(&self) -> String {
        let keys = self.0.iter().filter_map(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            Step::Index(_) => None,
        });
        keys.collect::<Vec<_>>().join(".")
    }

    /// Whether it is one of these or stands inside one.
    fn is_within(&self, others: &HashSet<Vec<Step>>) -> bool {
        (1..=self.0.len()).any(|length| others.contains(&self.0[..length]))
    }
}

impl From<&Path<'_>> for Place {
    fn from(path: &Path<'_>) -> Self {
        let (parent, step) = match path {
            Path::Root => return Self(Vec::new()),
            Path::Seq { parent, index } => (parent, Some(Step::Index(*index))),
            Path::Map { parent, key } => (parent, Some(Step::Key(key.clone()))),
            Path::Some { parent }
            | Path::NewtypeStruct { parent }
            | Path::NewtypeVariant { parent } => (parent, None),
        };
        let mut place = Self::from(*parent);
        place.0.extend(step);
        place
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if number == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Of two types of one body, what neither reads.
pub(in crate::server) fn neither(one: &[Place], other: &[Place]) -> Vec<Place> {
    let steps = |places: &[Place]| places.iter().map(|place| place.0.clone()).collect();
    let (in_one, in_other): (HashSet<Vec<Step>>, HashSet<Vec<Step>>) = (steps(one), steps(other));
    let unread = one.iter().filter(|place| place.is_within(&in_other));
    let others = other.iter().filter(|it| it.is_within(&in_one) && !in_one.contains(&it.0));
    unread.chain(others).cloned().collect()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Deserialize)]
    struct Outer {
        #[serde(rename = "read")]
        _read: Option<Vec<Inner>>,
    }

    #[derive(Deserialize)]
    struct Inner {
        #[serde(rename = "known")]
        _known: Option<u8>,
    }

    fn places(body: &Value) -> Vec<Place> {
        let mut unread = Vec::new();
        let note = |path: Path<'_>| unread.push(Place::from(&path));
        let _: Outer = serde_ignored::deserialize(body, note).unwrap();
        unread
    }

    #[test]
    fn places_have_keys_and_numbers_and_are_found_again() {
        let body = json!({ "a": 1, "read": [{ "known": 1 }, { "known": 2, "b": [3] }] });
        let unread = places(&body);
        let told: Vec<String> = unread.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["a", "read[1].b"]);
        assert_eq!(unread[1].keys(), "read.b");
        assert_eq!(unread[1].find(&body), Some(&json!([3])));
    }

    #[test]
    fn what_one_of_two_types_reads_is_read() {
        let place = |keys: &[&str]| Place(keys.iter().map(|it| Step::Key((*it).into())).collect());
        let (one, other) = ([place(&["a"]), place(&["b"])], [place(&["b", "c"]), place(&["d"])]);
        assert_eq!(neither(&one, &other), [place(&["b", "c"])]);
        assert_eq!(neither(&one, &one), one);
    }
}
