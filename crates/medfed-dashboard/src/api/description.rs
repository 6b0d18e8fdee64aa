//! The API's description: what each handler says about itself, and what is true of all of them.

use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{Components, Content, HeaderBuilder, Ref, Response, ResponseBuilder};

/// What the description says of itself. Handlers add their paths.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "MedFedAgent",
        description = "Watches federated training and starts and stops it. All times are UTC; a value that the data do not define is null. Where the dashboard has users, programs send name and password (basic authentication), browsers the cookie of their session.",
        license(name = "MIT", identifier = "MIT")
    ),
    tags(
        (name = "data", description = "The newest run as numbers and as events"),
        (name = "training", description = "Start, pause, resume and stop; the configuration; the log"),
        (name = "runs", description = "Every run of the results folder"),
        (name = "audit", description = "The audit log, proofs, and verifying"),
        (name = "operation", description = "For whoever keeps the service running"),
    )
)]
struct Description;

/// What handlers add themselves to.
pub(super) fn begun() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

/// Adds the answers that the server gives in front of every handler.
pub(super) fn complete(description: &mut utoipa::openapi::OpenApi) {
    let components = description.components.get_or_insert_with(Components::new);
    let basic = SecurityScheme::Http(Http::new(HttpAuthScheme::Basic));
    let session = SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new("medfed")));
    components
        .security_schemes
        .extend([("password".to_owned(), basic.into()), ("session".to_owned(), session.into())]);
    for (path, item) in &mut description.paths.paths {
        // The health of the service may be asked by anybody.
        let open = path == "/healthz";
        let PathItem { get, post, .. } = item;
        for (operation, changes) in [(get, false), (post, true)] {
            if let Some(operation) = operation {
                answers(operation, changes, open);
            }
        }
    }
}

fn answers(operation: &mut Operation, changes: bool, open: bool) {
    let mut add = |status: &str, response: Response| {
        operation.responses.responses.entry(status.to_owned()).or_insert_with(|| response.into());
    };
    let foreign = "The `Host` header is not one of the dashboard's names";
    if changes {
        let text = format!("{foreign}, the request comes from another site, or the user is a viewer");
        add("403", failure(&text).build());
        add("413", Response::new("The body is larger than 1 MiB"));
    } else {
        add("403", failure(foreign).build());
    }
    add("500", failure("A fault of the dashboard; its log says more").build());
    add("503", Response::new("No answer within 30 seconds, or too many connections"));
    if open {
        operation.security = Some(Vec::new());
        return;
    }
    add("401", failure("Nobody is logged in, or name and password are wrong").build());
    let header = HeaderBuilder::new().description(Some("Seconds to wait")).build();
    let wait = failure("Too many failed logins").header("Retry-After", header);
    add("429", wait.build());
    // Without users, on this machine's own address, nothing is asked for.
    let nothing = SecurityRequirement::default();
    operation.security = Some(vec![nothing, requirement("password"), requirement("session")]);
}

fn requirement(name: &str) -> SecurityRequirement {
    SecurityRequirement::new::<_, [&str; 0], &str>(name, [])
}

fn failure(text: &str) -> ResponseBuilder {
    let schema = Ref::from_schema_name("Failure");
    ResponseBuilder::new().description(text).content("application/json", Content::new(Some(schema)))
}

#[cfg(test)]
mod tests {
    use crate::api;
    use serde_json::Value;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    fn described() -> Value {
        serde_json::to_value(api::router().1).unwrap()
    }

    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                sources(&entry, found);
            } else if entry.extension().is_some_and(|end| end == "rs") {
                found.push(entry);
            }
        }
    }

    /// What stands between `before` and the next quotation mark, wherever it occurs in this crate.
    fn quoted(before: &str) -> BTreeSet<String> {
        let (mut files, mut found) = (Vec::new(), BTreeSet::new());
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
        for file in files.iter().filter(|file| !file.ends_with("description.rs")) {
            let text = fs::read_to_string(file).unwrap();
            found.extend(
                text.split(before).skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())),
            );
        }
        found
    }

    #[test]
    fn the_description_is_the_reviewed_one() {
        let mut described = described();
        for methods in described["paths"].as_object_mut().unwrap().values_mut() {
            for operation in methods.as_object_mut().unwrap().values_mut() {
                // The same everywhere, and looked at below.
                operation.as_object_mut().unwrap().remove("security");
                for status in ["401", "403", "413", "429", "500", "503"] {
                    operation["responses"].as_object_mut().unwrap().remove(status);
                }
            }
        }
        insta::assert_snapshot!(format!("{described:#}\n"));
    }

    #[test]
    fn every_path_for_programs_is_described_and_every_described_one_is_served() {
        let described = described();
        let paths: BTreeSet<String> = described["paths"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(quoted(", path = \""), paths, "a handler is not served, or one has no description");
        let routes = quoted(".route(\"");
        assert!(routes.contains("/clinical"), "pages are found in the sources");
        let for_programs = |path: &&String| {
            path.starts_with("/api") || path.starts_with("/metrics") || path.starts_with("/healthz")
        };
        let missing: Vec<_> =
            routes.iter().filter(for_programs).filter(|path| !paths.contains(*path)).collect();
        assert!(missing.is_empty(), "{missing:?} have no description");
    }

    #[test]
    fn the_guide_lists_every_operation_and_no_other() {
        let guide = include_str!("../../../../docs/dashboard.md");
        let listed: BTreeSet<String> = guide
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
            .filter(|(operation, _)| operation.starts_with("GET /") || operation.starts_with("POST /"))
            .map(|(operation, _)| operation.to_owned())
            .collect();
        let described = described();
        let paths = described["paths"].as_object().unwrap().iter();
        let operations = paths.flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        });
        assert_eq!(listed, operations.collect());
    }

    #[test]
    fn every_operation_says_what_it_does_and_how_it_fails() {
        let described = described();
        let mut names = BTreeSet::new();
        for (path, methods) in described["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let place = format!("{method} {path}");
                assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{place}");
                assert!(
                    names.insert(operation["operationId"].to_string()),
                    "{place} has the name of another"
                );
                let answers = &operation["responses"];
                let needed: &[&str] = match (method.as_str(), path.as_str()) {
                    ("get", "/healthz") => &["200", "403"],
                    ("get", _) => &["200", "401", "403", "429"],
                    _ => &["200", "400", "401", "403", "413", "429"],
                };
                for status in needed {
                    assert!(answers[status].is_object(), "{place} says nothing about {status}");
                }
                for (status, answer) in answers.as_object().unwrap() {
                    assert!(
                        answer["description"].as_str().is_some_and(|text| !text.is_empty()),
                        "{place} {status}"
                    );
                }
            }
        }
    }
}
