//! `medfed pki`, `medfed site enroll`, `medfed site doctor`: from an empty folder to a certificate.

use assert_cmd::Command;
use serde_json::Value;
use std::path::Path;

/// Exit code, standard output and standard error of `medfed ARGUMENTS` in a folder.
fn medfed(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::cargo_bin("medfed").expect("cargo builds the binary");
    let run = command.env("NO_COLOR", "1").env_remove("HTTPS_PROXY").env_remove("https_proxy");
    let output = run.current_dir(folder).args(arguments).output().expect("the binary starts");
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    (output.status.code().expect("it exits"), text(output.stdout), text(output.stderr))
}

fn object(folder: &Path, arguments: &[&str]) -> Value {
    let (code, out, error) = medfed(folder, &[arguments, &["--json"]].concat());
    assert_eq!(code, 0, "{arguments:?}: {error}");
    serde_json::from_str(&out).expect("one JSON object")
}

fn refusal(folder: &Path, arguments: &[&str]) -> String {
    let (code, out, error) = medfed(folder, arguments);
    assert_eq!((code, out.as_str()), (1, ""), "{arguments:?}: {error}");
    assert!(error.contains("hint: "), "{error}");
    error
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object[key].as_str().expect("a text")
}

#[test]
fn a_hospital_is_enrolled_renewed_and_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let authority = object(here, &["pki", "init", "--dir", "fed", "--name", "Lung federation"]);
    let coordinator = object(here, &["pki", "coordinator", "--dir", "fed", "--dns", "localhost"]);
    assert_eq!(coordinator["hosts"], serde_json::json!(["localhost"]));
    let request = object(here, &["site", "enroll", "--dir", "clinic", "--name", "North Clinic"]);
    let fingerprint = text(&request, "fingerprint");
    // Asked again it is the same key.
    assert_eq!(text(&object(here, &["site", "enroll", "--dir", "clinic"]), "fingerprint"), fingerprint);
    // Nobody is there to compare the fingerprint.
    let approve = ["pki", "approve", "clinic/site.csr", "--dir", "fed"];
    assert!(refusal(here, &approve).contains("--fingerprint"));
    let other = text(&authority, "fingerprint");
    let wrong = refusal(here, &[&approve[..], &["--fingerprint", other]].concat());
    assert!(wrong.contains("do not approve it"), "{wrong}");
    let approved = object(here, &[&approve[..], &["--fingerprint", fingerprint]].concat());
    assert_eq!(text(&approved, "file"), "North Clinic.pem");
    let install = ["site", "enroll", "--dir", "clinic", "--certificate", "North Clinic.pem"];
    assert!(refusal(here, &install).contains("--authority"));
    let wrong = refusal(here, &[&install[..], &["--authority", fingerprint]].concat());
    assert!(wrong.contains("the authority's key is"), "{wrong}");
    let installed = object(here, &[&install[..], &["--authority", other]].concat());
    assert_eq!((text(&installed, "name"), text(&installed, "fingerprint")), ("North Clinic", fingerprint));
    // From now on the authority is known: a renewal asks nothing.
    object(here, &["site", "enroll", "--dir", "clinic", "--renew"]);
    object(here, &[&approve[..], &["--fingerprint", fingerprint]].concat());
    let renewed = object(here, &install);
    assert_ne!(text(&renewed, "serial"), text(&installed, "serial"));
    let refused = refusal(here, &["site", "enroll", "--dir", "clinic", "--name", "South Clinic"]);
    assert!(refused.contains("belongs to site North Clinic"), "{refused}");
    let unknown = refusal(here, &["pki", "revoke", "South Clinic", "--dir", "fed"]);
    assert!(unknown.contains("on the roster are: North Clinic"), "{unknown}");
    let revoked = object(here, &["pki", "revoke", "North Clinic", "--dir", "fed"]);
    assert_eq!(revoked["revoked"], 2);
    let listed = object(here, &["pki", "list", "--dir", "fed"]);
    let states: Vec<&str> =
        listed["certificates"].as_array().unwrap().iter().map(|it| text(it, "state")).collect();
    assert_eq!(states, ["valid", "revoked", "revoked"]);
}

#[test]
fn what_is_missing_is_said_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    assert!(refusal(here, &["pki", "list", "--dir", "fed"]).contains("medfed pki init"));
    assert!(refusal(here, &["site", "enroll", "--dir", "clinic"]).contains("--name"));
    object(here, &["pki", "init", "--dir", "fed", "--name", "F"]);
    assert!(
        refusal(here, &["pki", "init", "--dir", "fed", "--name", "F"]).contains("holds an authority already")
    );
    assert!(refusal(here, &["pki", "coordinator", "--dir", "fed"]).contains("--dns"));
    std::fs::write(here.join("no.csr"), "nothing").unwrap();
    assert!(refusal(here, &["pki", "approve", "no.csr", "--dir", "fed"]).contains("not acceptable"));
    let (code, _, error) = medfed(here, &["site", "enroll", "--dir", "clinic", "--name", "a/b"]);
    assert_eq!(code, 1);
    assert!(error.contains("'/' is not allowed in a name"), "{error}");
}

#[test]
fn an_authority_on_another_machine_certifies_the_coordinator() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let authority = object(here, &["pki", "init", "--dir", "vault", "--name", "F"]);
    let asked = object(here, &["pki", "coordinator", "--dir", "fed", "--ip", "192.0.2.7"]);
    let fingerprint = text(&asked, "fingerprint");
    let approve = ["pki", "approve", "fed/coordinator.csr", "--dir", "vault", "--fingerprint", fingerprint];
    assert_eq!(text(&object(here, &approve), "file"), "coordinator.pem");
    let install = ["pki", "coordinator", "--dir", "fed", "--certificate", "coordinator.pem", "--authority"];
    let installed = object(here, &[&install[..], &[text(&authority, "fingerprint")]].concat());
    assert_eq!(installed["hosts"], serde_json::json!(["192.0.2.7"]));
}

#[test]
fn the_doctor_finds_the_first_fault() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let doctor = ["site", "doctor", "--dir", "clinic", "--coordinator", "127.0.0.1:1", "--json"];
    let (code, out, error) = medfed(here, &doctor);
    assert_eq!(code, 1, "{error}");
    let object: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(object["ok"], false);
    let of = |level: &str| -> Vec<&str> {
        let checks = object["checks"].as_array().unwrap().iter();
        checks.filter(|check| text(check, "level") == level).map(|check| text(check, "check")).collect()
    };
    assert_eq!(of("fail"), ["policy", "key", "tcp"]);
    assert_eq!(of("skip"), ["certificate", "proxy", "tls", "admission", "clock"]);
    assert!(of("ok").contains(&"name"));
}
