//! `GET /openapi.json`: the API's description, made of the types that read and write it.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use serde_json::{Value, json};
use utoipa::{
    IntoResponses, OpenApi, PartialSchema, ToSchema,
    openapi::{
        ContentBuilder, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder, Schema,
        schema::AllOfBuilder,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use super::{App, chat, completions, error::ErrorObject, models, ops, reports, responses, tokens};

#[derive(OpenApi)]
#[openapi(
    paths(
        chat::create,
        completions::create,
        responses::create,
        models::list,
        models::retrieve,
        reports::create,
        reports::list,
        reports::retrieve,
        reports::events,
        reports::delete,
        tokens::tokenize,
        tokens::detokenize,
        tokens::info,
        ops::probes::health,
        ops::probes::ready,
        ops::probes::version,
        ops::metrics::expose,
    ),
    components(schemas(ErrorObject))
)]
struct Description;

/// What any request may be refused with.
pub(super) struct Refusals;

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let told = [
            ("400", "the request cannot be served as it is"),
            ("401", "there is no API key, or it is none of the server's"),
            ("404", "there is no such model"),
            ("413", "the body is too large"),
            ("415", "the body is not called JSON"),
            ("429", "too many requests; `retry-after` says when to come back"),
            ("500", "the server failed"),
            ("503", "the server is stopping"),
        ];
        let response = |description: &str| {
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorObject")));
            let response = ResponseBuilder::new().description(description);
            response.content("application/json", content.build()).build()
        };
        told.map(|(status, text)| (status.to_owned(), response(text).into())).into()
    }
}

/// What a stream consists of. `data` is JSON, or `[DONE]`.
pub(super) struct StreamEvent;

impl PartialSchema for StreamEvent {
    fn schema() -> RefOr<Schema> {
        let fields = ["data", "event", "id"].into_iter();
        let object = fields
            .fold(ObjectBuilder::new(), |object, name| object.property(name, String::schema()));
        object.required("data").into()
    }
}

impl ToSchema for StreamEvent {}

/// The fields of two types in one object.
pub(super) fn both<A: ToSchema, B: ToSchema>() -> RefOr<Schema> {
    let part = |name: &str| Ref::from_schema_name(name);
    let all = AllOfBuilder::new().item(part(&A::name())).item(part(&B::name()));
    all.into()
}

/// The schemas that [`both`] refers to.
pub(super) fn both_parts<A: ToSchema, B: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) {
    schemas.push((A::name().into_owned(), A::schema()));
    schemas.push((B::name().into_owned(), B::schema()));
    A::schemas(schemas);
    B::schemas(schemas);
}

pub(super) async fn describe(State(app): State<App>) -> Json<Value> {
    let mut description = Description::openapi();
    if !app.config.api_keys.is_empty() {
        let scheme =
            SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        let components = description.components.get_or_insert_default();
        components.add_security_scheme("key", scheme);
        description.security =
            Some(vec![utoipa::openapi::SecurityRequirement::new("key", Vec::<String>::new())]);
    }
    let names: Vec<String> = app.engine.models().into_iter().map(|card| card.name).collect();
    if app.config.reports.is_none() {
        description.paths.paths.retain(|path, _| !path.starts_with("/v1/reports"));
    }
    let mut description = json!(description);
    description["components"]["schemas"]["Fields"]["properties"]["model"]["enum"] = json!(names);
    Json(description)
}
