//! The REST API: paths, methods and shapes of the original project, and a few more.

mod asked;
pub(crate) mod audit;
pub(crate) mod config;
pub(crate) mod data;
mod description;
pub(crate) mod document;
pub(crate) mod failure;
pub(crate) mod health;
pub(crate) mod runs;
pub(crate) mod stream;
pub(crate) mod training;

use crate::app::App;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// All paths, and what describes them.
pub(crate) fn router() -> (axum::Router<App>, utoipa::openapi::OpenApi) {
    let (router, mut description) = OpenApiRouter::with_openapi(description::begun())
        .routes(routes!(document::openapi))
        .routes(routes!(data::data))
        .routes(routes!(data::metrics))
        .routes(routes!(training::start))
        .routes(routes!(training::stop))
        .routes(routes!(training::pause))
        .routes(routes!(training::resume))
        .routes(routes!(training::reset))
        .routes(routes!(training::status))
        .routes(routes!(training::logs))
        .routes(routes!(training::round_history))
        .routes(routes!(config::read, config::change))
        .routes(routes!(runs::list))
        .routes(routes!(runs::one))
        .routes(routes!(audit::log))
        .routes(routes!(audit::entries))
        .routes(routes!(audit::checkpoints))
        .routes(routes!(audit::entry))
        .routes(routes!(audit::verify))
        .routes(routes!(stream::events))
        .routes(routes!(health::prometheus))
        .routes(routes!(health::health))
        .split_for_parts();
    description::complete(&mut description);
    (router, description)
}
