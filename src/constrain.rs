//! A JSON schema as the set of union pieces allowed next.
//!
//! Works on the union after fusion; knows no member.

/// What the generated text has to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Constraint {
    /// A JSON document that this schema accepts.
    JsonSchema(serde_json::Value),
}
