//! `/v1/models`: the ensembles and their members by name, and the chat models that write reports.

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{ApiError, App, openapi::Refusals, reports};
use crate::engine::{GenerateError, ModelCard};

#[utoipa::path(get, path = "/v1/models", responses((status = 200, description = "the answer", body = ModelList), Refusals))]
pub(super) async fn list(State(app): State<App>) -> Json<ModelList> {
    let data = cards(&app).into_iter().map(|card| Model::new(card, app.started)).collect();
    Json(ModelList { object: "list", data })
}

#[utoipa::path(get, path = "/v1/models/{id}", params(("id" = String, Path)), responses((status = 200, description = "the answer", body = Model), Refusals))]
pub(super) async fn retrieve(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Model>, ApiError> {
    let Path(id) = id.map_err(|error| ApiError::invalid("model", error.body_text()))?;
    let mut cards = cards(&app);
    match cards.iter().position(|card| card.name == id) {
        Some(index) => Ok(Json(Model::new(cards.swap_remove(index), app.started))),
        None => {
            let available = cards.into_iter().map(|card| card.name).collect();
            Err(GenerateError::UnknownModel { name: id, available }.into())
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ModelList {
    object: &'static str,
    data: Vec<Model>,
}

/// Those that generate, then those that answer chats with a report.
fn cards(app: &App) -> Vec<ModelCard> {
    [app.engine.models(), reports::chat_models(app)].concat()
}

/// OpenAI's model object, and three fields of ours.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Model {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    members: Vec<String>,
    context_length: usize,
    /// Whether the weights are in memory; if not, a request loads them first.
    loaded: bool,
}

impl Model {
    fn new(card: ModelCard, created: u64) -> Self {
        let ModelCard { name, members, fusion: _, context_length, loaded } = card;
        Self {
            id: name,
            object: "model",
            created,
            owned_by: "tutti",
            members,
            context_length,
            loaded,
        }
    }
}
