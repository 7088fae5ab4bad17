//! A field that clients send as a string or as something longer.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeOwned, Error, MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema, schema::OneOfBuilder},
};

/// An untagged enum of these would not say which field inside is wrong, or not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) enum StringOr<T> {
    String(String),
    Other(T),
}

/// What may stand in the place of a string: a list or an object.
pub(in crate::server) trait Instead: DeserializeOwned {
    /// Both, in words.
    const EXPECTED: &'static str;
}

impl<'de, T: Instead> Deserialize<'de> for StringOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Choose(PhantomData))
    }
}

struct Choose<T>(PhantomData<T>);

impl<'de, T: Instead> Visitor<'de> for Choose<T> {
    type Value = StringOr<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(StringOr::String(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Self::Value, E> {
        Ok(StringOr::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        T::deserialize(SeqAccessDeserializer::new(list)).map(StringOr::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(object)).map(StringOr::Other)
    }
}

impl<T: ToSchema> PartialSchema for StringOr<T> {
    fn schema() -> RefOr<Schema> {
        OneOfBuilder::new().item(String::schema()).item(T::schema()).into()
    }
}

impl<T: ToSchema> ToSchema for StringOr<T> {
    fn name() -> Cow<'static, str> {
        format!("StringOr{}", T::name()).into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        T::schemas(schemas);
    }
}
