//! The configuration that the next run starts with: reading it, and changing its file.

use super::failure::Failure;
use crate::app::App;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use medfed_config::{Config, ConfigErrors, Override, OverrideError};
use serde::Serialize;
use serde_json::Value;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::PoisonError;
use utoipa::ToSchema;

/// Values that one request may change: more than there are keys.
const MOST_CHANGES: usize = 1000;

/// The configuration of the next run.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConfigAnswer {
    /// Always true.
    success: bool,
    /// The file, or `built-in defaults` while there is none.
    file: String,
    /// Every key with its value.
    #[schema(value_type = Object)]
    config: Value,
}

/// The configuration after a change.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChangeAnswer {
    /// Always true.
    success: bool,
    /// What was done, for people.
    message: String,
    /// Whether the comments in the file are still there.
    kept_comments: bool,
    /// Every key with its value.
    #[schema(value_type = Object)]
    config: Value,
}

/// The configuration of the next run.
#[utoipa::path(get, path = "/api/training/config", tag = "training", responses(
    (status = 200, description = "Every key with its value", body = ConfigAnswer),
    (status = 422, description = "The file has a mistake; `key` names it", body = Failure)))]
pub(crate) async fn read(State(app): State<App>) -> Result<Json<ConfigAnswer>, Failure> {
    let (text, name) = file(&app.config)?;
    let config = Config::from_yaml(&text, &name, &[]).map_err(|errors| refused(&errors))?;
    Ok(Json(ConfigAnswer { success: true, file: name, config: config.to_json() }))
}

/// Change keys of the configuration file. It is replaced at once or not at all, and keeps its comments
/// where that is possible.
#[utoipa::path(post, path = "/api/training/config", tag = "training",
    request_body(content = Object, description = "Sections and keys to change, such as `{\"federated\": {\"num_rounds\": 5}}`"),
    responses(
        (status = 200, description = "The file has changed", body = ChangeAnswer),
        (status = 400, description = "The body is not a JSON object", body = Failure),
        (status = 409, description = "The file cannot be written; it is as it was", body = Failure),
        (status = 422, description = "A value is refused; `key` names it", body = Failure)))]
pub(crate) async fn change(State(app): State<App>, body: Bytes) -> Result<Json<ChangeAnswer>, Failure> {
    let wanted: Value = serde_json::from_slice(&body)
        .map_err(|error| Failure::new(StatusCode::BAD_REQUEST, format!("the body is not JSON: {error}")))?;
    if !wanted.is_object() {
        return Err(Failure::new(StatusCode::BAD_REQUEST, "the body must be a JSON object of sections"));
    }
    let mut overrides = Vec::new();
    collect("", &wanted, &mut overrides)
        .map_err(|error| Failure::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    if overrides.len() > MOST_CHANGES {
        let message = format!("{} values at once; a configuration has fewer keys", overrides.len());
        return Err(Failure::new(StatusCode::UNPROCESSABLE_ENTITY, message));
    }
    let done = tokio::task::spawn_blocking(move || {
        // Read, changed and written by one request at a time: none undoes what another has changed.
        let _turn = app.editing.lock().unwrap_or_else(PoisonError::into_inner);
        let (text, name) = file(&app.config)?;
        let edited = Config::edit(&text, &name, &overrides).map_err(|errors| refused(&errors))?;
        let nothing = overrides.is_empty();
        if !nothing {
            replace(&app.config, &edited.text)?;
        }
        let message = match (nothing, edited.kept_comments) {
            (true, _) => "Nothing to change".to_owned(),
            (false, true) => format!("{} is saved", app.config.display()),
            (false, false) => {
                format!("{} is saved; its comments could not be kept", app.config.display())
            }
        };
        let (kept_comments, config) = (edited.kept_comments, edited.config.to_json());
        Ok(Json(ChangeAnswer { success: true, message, kept_comments, config }))
    });
    done.await.map_err(|error| Failure::internal(&error))?
}

/// The text of the configuration file and its name; nothing but defaults while there is none.
pub(crate) fn file(path: &Path) -> Result<(String, String), Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{} cannot be read: {error}", path.display()))
    };
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(("{}".to_owned(), "built-in defaults".to_owned()));
        }
        Err(error) => return Err(unreadable(error)),
    };
    let mut text = String::new();
    // One byte more than is accepted: the parser then says that it is too much.
    file.take(medfed_config::MAX_BYTES as u64 + 1).read_to_string(&mut text).map_err(unreadable)?;
    Ok((text, path.display().to_string()))
}

/// What is wrong with a configuration, and the first key it is about.
pub(crate) fn refused(errors: &ConfigErrors) -> Failure {
    let failure = Failure::new(StatusCode::UNPROCESSABLE_ENTITY, errors.to_string());
    match errors.problems().first().filter(|problem| !problem.key.is_empty()) {
        Some(problem) => failure.about(problem.key.clone()),
        None => failure,
    }
}

/// An override for each value in the object.
fn collect(path: &str, value: &Value, out: &mut Vec<Override>) -> Result<(), OverrideError> {
    match value {
        Value::Object(entries) if path.is_empty() || !entries.is_empty() => {
            for (key, value) in entries {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                collect(&path, value, out)?;
            }
        }
        Value::String(text) => out.push(Override::text(path, text)?),
        other => out.push(Override::parse(&format!("{path}={other}"))?),
    }
    Ok(())
}

/// Replaces a file at once: a crash leaves the old one or the new one. Who may read it stays the same.
fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    // Where the name is a link, what it leads to is replaced.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(name);
    let write = || {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder)?;
        }
        let mut file = fs::File::create(&beside)?;
        if let Ok(before) = fs::metadata(path) {
            file.set_permissions(before.permissions())?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(|error| {
        // What is left of a failed attempt is of no use.
        let _ = fs::remove_file(&beside);
        tracing::error!("{} cannot be written: {error}", path.display());
        Failure::new(StatusCode::CONFLICT, format!("{} cannot be written: {error}", path.display()))
    })
}
