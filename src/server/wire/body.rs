//! The body of a request: the fields that several endpoints have, and those of its own.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

use super::{Fields, ignored::ignored};
use crate::server::{
    ApiError,
    body::{JsonBody, neither},
    openapi::{both, both_parts},
};

/// A field that is null is as one left out.
pub(in crate::server) struct Body<Own> {
    pub(in crate::server) fields: Fields,
    pub(in crate::server) own: Own,
}

/// What one endpoint has and others have not.
pub(in crate::server) trait Own: DeserializeOwned + ToSchema {
    /// The whole body's in the API's description.
    const NAME: &'static str;
}

impl<O: Own> Body<O> {
    /// The body, and the names of the fields that nothing reads.
    pub(in crate::server) fn parse(body: &JsonBody) -> Result<(Self, Vec<String>), ApiError> {
        let ((fields, others), (own, common)) = (body.parse()?, body.parse()?);
        Ok((Self { fields, own }, ignored(body, &neither(&others, &common))?))
    }
}

impl<O: Own> PartialSchema for Body<O> {
    fn schema() -> RefOr<Schema> {
        both::<Fields, O>()
    }
}

impl<O: Own> ToSchema for Body<O> {
    fn name() -> Cow<'static, str> {
        O::NAME.into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        both_parts::<Fields, O>(schemas);
    }
}
