//! Schemas whose objects hold nothing that they do not list.
//!
//! Pure: JSON in, JSON out.

use serde_json::{Map, Value};

/// The schema, of which an object has no properties but those that it lists, unless it says
/// otherwise. JSON Schema allows any others; but nobody reads them, a small model that was shown
/// the schema likes to write its words into them, and other servers' constraints allow none
/// either. What keeps to the closed schema keeps to the open one.
pub(in crate::server) fn closed(mut schema: Value) -> Value {
    if !refers_to_itself(&schema) {
        close(&mut schema);
    }
    schema
}

fn close(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else { return };
    // Of several schemas for one value, each must allow what the others ask for.
    if fields.keys().any(|name| SEVERAL.contains(&name.as_str())) {
        return;
    }
    for (name, inner) in fields.iter_mut() {
        match (name.as_str(), inner) {
            ("properties", Value::Object(properties)) => properties.values_mut().for_each(close),
            ("items", inner) => close(inner),
            _ => {}
        }
    }
    if fields.get("type").is_some_and(|kind| kind == "object") && lists_all(fields) {
        fields.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
}

/// Whether the schema lists properties, says nothing of others, and can do without them.
fn lists_all(fields: &Map<String, Value>) -> bool {
    let Some(listed) = fields.get("properties").and_then(Value::as_object) else { return false };
    let required = fields.get("required").and_then(Value::as_array).into_iter().flatten();
    !fields.keys().any(|name| OTHERS.contains(&name.as_str()))
        && required.filter_map(Value::as_str).all(|name| listed.contains_key(name))
}

/// Keywords that put more than one schema on a value.
const SEVERAL: [&str; 10] = [
    "$ref",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "contains",
    "dependentSchemas",
    "const",
    "enum",
];

/// Keywords of properties that are not listed, or of how many there are.
const OTHERS: [&str; 6] = [
    "additionalProperties",
    "unevaluatedProperties",
    "patternProperties",
    "propertyNames",
    "minProperties",
    "dependentRequired",
];

/// Whether a reference leads into the schema itself, not to a definition.
fn refers_to_itself(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => fields.iter().any(|(name, inner)| match inner {
            Value::String(to) if name == "$ref" => {
                !(to.starts_with("#/$defs/") || to.starts_with("#/definitions/"))
            }
            inner => refers_to_itself(inner),
        }),
        Value::Array(items) => items.iter().any(refers_to_itself),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_that_list_their_properties_have_no_others() {
        let place = json!({ "type": "object", "properties": { "at": { "type": "string" } } });
        let open = json!({
            "type": "object",
            "properties": {
                "one": place,
                "many": { "type": "array", "items": place },
                "free": { "type": "object" },
                "open": { "type": "object", "properties": {}, "additionalProperties": true },
            },
            "required": ["one"],
        });
        let closed = closed(open);
        assert_eq!(closed["additionalProperties"], false);
        let properties = &closed["properties"];
        assert_eq!(properties["one"]["additionalProperties"], false);
        assert_eq!(properties["many"]["items"]["additionalProperties"], false);
        assert!(properties["free"].get("additionalProperties").is_none());
        assert_eq!(properties["open"]["additionalProperties"], true);
    }

    /// Closed, none of these would allow the same as before, or anything at all.
    #[test]
    fn what_must_be_open_stays_open() {
        let named = json!({ "a": { "type": "string" } });
        for schema in [
            json!({ "type": "object", "properties": named, "required": ["a", "b"] }),
            json!({ "type": "object", "properties": named, "minProperties": 2 }),
            json!({ "type": "object", "properties": named, "patternProperties": { "^x": {} } }),
            json!({ "type": "object", "properties": named, "allOf": [{ "required": ["b"] }] }),
            json!({ "oneOf": [{ "type": "object", "properties": named }] }),
            json!({ "$defs": { "d": { "type": "object", "properties": named } }, "$ref": "#/$defs/d" }),
            json!({ "type": "object", "properties": { "again": { "$ref": "#" } } }),
        ] {
            assert_eq!(closed(schema.clone()), schema);
        }
    }
}
