//! The configuration file as it is read and changed over the API.

use crate::server::small;
use serde_json::json;
use std::fs;

#[test]
fn the_configuration_changes_at_once_with_its_comments_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let dashboard = small(folder.path(), 2, 3);
    let path = folder.path().join("config.yaml");
    let text = || fs::read_to_string(&path).unwrap();
    let before = text();
    let read = dashboard.json("/api/training/config");
    assert_eq!(
        (&read["config"]["federated"]["num_rounds"], &read["file"]),
        (&json!(2), &json!("config.yaml"))
    );

    for (body, status, key) in [
        (r#"{"federated": {"num_rounds": 0}}"#, 422, "federated.num_rounds"),
        (r#"{"privacy": {"epsilon_budget": -1}}"#, 422, "privacy.epsilon_budget"),
        (r#"{"federated": {"rounds": 3}}"#, 422, "federated.rounds"),
        (r#"{"training": {"optimizer": "sgd; rm"}}"#, 422, "training.optimizer"),
    ] {
        let (found, answer) = dashboard.post("/api/training/config", body);
        assert_eq!((found, answer["key"].as_str()), (status, Some(key)), "{body}: {answer}");
        assert!(answer["message"].as_str().unwrap().contains(key), "{answer}");
    }
    for body in ["", "[]", "7", "{", "null"] {
        assert_eq!(dashboard.post("/api/training/config", body).0, 400, "{body}");
    }
    assert_eq!(text(), before, "what was refused changed nothing");
    let (_, answer) = dashboard.post("/api/training/config", "{}");
    assert_eq!((&answer["message"], text()), (&json!("Nothing to change"), before.clone()));

    let (status, answer) = dashboard.post("/api/training/config", r#"{"federated": {"num_rounds": 7}}"#);
    assert_eq!((status, &answer["kept_comments"]), (200, &json!(true)), "{answer}");
    assert_eq!(text(), before.replace("num_rounds: 2", "num_rounds: 7"));
    assert_eq!(dashboard.json("/api/training/config")["config"]["federated"]["num_rounds"], json!(7));
}

#[cfg(unix)]
#[test]
fn edits_at_once_are_all_kept_and_so_are_link_and_permissions() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let folder = tempfile::tempdir().unwrap();
    let dashboard = small(folder.path(), 2, 3);
    let (path, real) = (folder.path().join("config.yaml"), folder.path().join("shared.yaml"));
    fs::rename(&path, &real).unwrap();
    symlink("shared.yaml", &path).unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    let edits = [
        r#"{"federated": {"num_rounds": 9}}"#,
        r#"{"training": {"local_steps": 4}}"#,
        r#"{"training": {"learning_rate": 0.125}}"#,
        r#"{"privacy": {"epsilon_budget": 12}}"#,
        r#"{"privacy": {"max_grad_norm": 0.5}}"#,
        r#"{"experiment": {"name": "at once"}}"#,
    ];
    std::thread::scope(|scope| {
        for edit in edits {
            let dashboard = &dashboard;
            scope.spawn(move || assert_eq!(dashboard.post("/api/training/config", edit).0, 200, "{edit}"));
        }
    });
    let config = dashboard.json("/api/training/config")["config"].clone();
    for edit in edits {
        let edit: serde_json::Value = serde_json::from_str(edit).unwrap();
        for (section, keys) in edit.as_object().unwrap() {
            for (key, value) in keys.as_object().unwrap() {
                let found = &config[section][key];
                assert!(
                    found == value || found.as_f64() == value.as_f64() && found.is_number(),
                    "{section}.{key}: {found}"
                );
            }
        }
    }
    assert!(fs::read_to_string(&real).unwrap().starts_with("# A small run.\n"));
    assert!(path.is_symlink());
    assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
    let mut left = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    assert!(left.all(|path| path.extension().is_none_or(|end| end != "new")), "nothing is left over");
}
