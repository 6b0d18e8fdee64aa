//! `medfed dp`: what it prints, and how it refuses.

use assert_cmd::Command;
use serde_json::Value;

/// Exit code, standard output and standard error of `medfed dp ARGUMENTS`.
fn dp(arguments: &str) -> (i32, String, String) {
    let mut command = Command::cargo_bin("medfed").expect("cargo builds the binary");
    let run = command.env("NO_COLOR", "1").arg("dp").args(arguments.split_whitespace());
    let output = run.output().expect("the binary starts");
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    (output.status.code().expect("it exits"), text(output.stdout), text(output.stderr))
}

fn answer(arguments: &str) -> String {
    let (code, out, error) = dp(arguments);
    assert_eq!((code, error.as_str()), (0, ""), "{arguments}");
    out
}

fn object(arguments: &str) -> Value {
    serde_json::from_str(&answer(arguments)).expect("one JSON object")
}

fn refusal(arguments: &str) -> String {
    let (code, out, error) = dp(arguments);
    assert_eq!((code, out.as_str()), (1, ""), "{arguments}: {error}");
    error
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

#[test]
fn epsilon_is_printed_by_both_accountants_rounded_up() {
    insta::assert_snapshot!(
        answer("epsilon --sampling-rate 0.01 --noise-multiplier 1.0 --steps 1000 --delta 1e-5"),
        @r"
    epsilon 1.8283 by PLD, privacy loss distributions
    epsilon 2.1014 by RDP, Rényi differential privacy
    at delta 1e-5 after
      1000 steps at sampling rate 0.01 with noise multiplier 1
    "
    );
    insta::assert_snapshot!(
        answer("epsilon --phase 0.05,0.8,100 --phase 0.05,0.88,100 --phase 0.05,1.2,50 --delta 1e-5"),
        @r"
    epsilon 7.2378 by PLD, privacy loss distributions
    epsilon 8.1912 by RDP, Rényi differential privacy
    at delta 1e-5 after
      100 steps at sampling rate 0.05 with noise multiplier 0.8
      100 steps at sampling rate 0.05 with noise multiplier 0.88
      50 steps at sampling rate 0.05 with noise multiplier 1.2
    "
    );
}

#[test]
fn epsilon_as_json_repeats_its_inputs() {
    let found = object("epsilon --sampling-rate 0.1 --noise-multiplier 1.5 --steps 200 --delta 1e-6 --json");
    assert!((number(&found["pld"]) / 5.711_265 - 1.0).abs() < 1e-3, "{found}");
    assert!((number(&found["rdp"]) / 6.196_165 - 1.0).abs() < 1e-6, "{found}");
    assert_eq!((number(&found["sampling_rate"]), number(&found["noise_multiplier"])), (0.1, 1.5));
    assert_eq!((found["steps"].as_u64(), number(&found["delta"])), (Some(200), 1e-6));
    let both = object(
        "epsilon --phase 0.1,1.5,150 --sampling-rate 0.1 --noise-multiplier 1.5 --steps 50 --delta 1e-6 --json",
    );
    assert_eq!(both, found);
    let phases = object("epsilon --phase 0.1,1.5,150 --phase 0.2,2,1 --delta 1e-6 --json");
    assert_eq!(phases["history"][1]["noise_multiplier"], 2.0);
    assert_eq!(phases["steps"], Value::Null);
}

#[test]
fn calibrated_noise_spends_the_target_and_no_more() {
    let terms = "--sampling-rate 0.01 --steps 1000 --delta 1e-5";
    for accountant in ["pld", "rdp"] {
        let found = object(&format!("calibrate --target-epsilon 3 {terms} --accountant {accountant} --json"));
        let (noise, epsilon) = (number(&found["noise_multiplier"]), number(&found["epsilon"]));
        assert!(epsilon <= 3.0 && epsilon > 2.997, "{found}");
        let back = object(&format!("epsilon --noise-multiplier {noise} {terms} --json"));
        assert_eq!(number(&back[accountant]), epsilon);
    }
    insta::assert_snapshot!(
        answer(&format!("calibrate --target-epsilon 3 {terms} --phase 0.01,1,500")),
        @r"
    noise multiplier 0.8428
    epsilon 3 by PLD
    at delta 1e-5 after
      500 steps at sampling rate 0.01 with noise multiplier 1
      1000 steps at sampling rate 0.01 with that noise
    "
    );
}

#[test]
fn delta_is_the_same_guarantee_read_the_other_way() {
    let terms = "--sampling-rate 0.01 --noise-multiplier 1.0 --steps 1000";
    let spent = object(&format!("epsilon {terms} --delta 1e-5 --json"));
    for accountant in ["pld", "rdp"] {
        let epsilon = number(&spent[accountant]);
        let back = object(&format!("delta {terms} --epsilon {epsilon} --json"));
        let delta = number(&back[accountant]);
        assert!((delta / 1e-5 - 1.0).abs() < 1e-3, "{accountant}: {delta}");
        let shown = answer(&format!("delta {terms} --epsilon {epsilon}"));
        let line =
            shown.lines().find(|line| line.contains(&accountant.to_uppercase())).expect("a line for each");
        let printed: f64 = line.split(' ').nth(1).expect("its number").parse().expect("a number");
        assert!(printed >= delta && printed < 1.01 * delta, "{line}");
    }
    insta::assert_snapshot!(refusal(&format!("delta {terms} --epsilon -1")), @r"
    error: epsilon must be 0 or more, not -1
    hint: an epsilon from 1 to 10 is usual
    ");
}

#[test]
fn impossible_numbers_are_refused_with_a_hint() {
    let epsilon = |rate: &str, noise: &str, delta: &str| {
        refusal(&format!(
            "epsilon --sampling-rate {rate} --noise-multiplier {noise} --steps 10 --delta {delta}"
        ))
    };
    insta::assert_snapshot!(epsilon("0", "1", "1e-5"), @r"
    error: the sampling rate must be above 0 and at most 1, not 0
    hint: the sampling rate is the expected batch size divided by the number of units: 64 of 6400 is 0.01
    ");
    insta::assert_snapshot!(epsilon("NaN", "1", "1e-5"), @r"
    error: the sampling rate must be above 0 and at most 1, not NaN
    hint: the sampling rate is the expected batch size divided by the number of units: 64 of 6400 is 0.01
    ");
    insta::assert_snapshot!(epsilon("0.1", "-1", "1e-5"), @r"
    error: the noise multiplier must be finite and above 0, not -1
    hint: the noise multiplier is the noise's standard deviation divided by the clipping norm, for example 1.1
    ");
    insta::assert_snapshot!(epsilon("0.1", "1", "1"), @r"
    error: delta must be above 0 and below 1, not 1
    hint: choose a delta far below one over the number of units, for example 1e-5
    ");
    insta::assert_snapshot!(refusal("epsilon --phase 0.1,1 --delta 1e-5"), @r#"
    error: --phase "0.1,1" is not a sampling rate, a noise multiplier and a number of steps
    hint: separate them by commas, for example --phase 0.05,0.8,100
    "#);
    let calibrate = |target: &str, more: &str| {
        refusal(&format!("calibrate --target-epsilon {target} --sampling-rate 0.1 --delta 1e-5 {more}"))
    };
    insta::assert_snapshot!(calibrate("0", "--steps 10"), @r"
    error: the target epsilon must be finite and above 0, not 0
    hint: an epsilon from 1 to 10 is usual
    ");
    insta::assert_snapshot!(calibrate("1", "--steps 0"), @r"
    error: the number of steps must be 1 or more, not 0
    hint: the number of steps is the number of rounds times the steps of a round
    ");
    insta::assert_snapshot!(calibrate("1", "--steps 10 --phase 0.1,0.5,100"), @r"
    error: no noise multiplier up to 1e6 keeps 10 steps at sampling rate 0.1 within epsilon 1 at delta 0.00001
    hint: raise the target or delta, or take fewer steps; steps already taken cannot be undone
    ");
    insta::assert_snapshot!(calibrate("1", "--steps 10 --accountant moments"), @r#"
    error: an accountant is pld or rdp, not "moments"
    hint: pld is the tight accountant, rdp the looser one
    "#);
}

#[test]
fn a_plan_shows_every_round_before_anything_runs() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let plan = |more: &[&str]| {
        let base = ["dp", "plan", "--set", "data.samples_per_client=60", "--set", "data.image_size=28"];
        let tight =
            ["--set", "privacy={epsilon_budget: 4, noise_multiplier: 0.8}", "--set", "experiment.seed=1"];
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_medfed"))
            .current_dir(dir.path())
            .args(base.iter().chain(&tight).chain(more))
            .output()
            .expect("the binary starts");
        let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, out, err) = plan(&["--set", "orchestrator.enabled=true"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(
        out.starts_with("budget epsilon 4 at delta 1e-5 by PLD, 10 rounds, noise by the strategy fit\n"),
        "{out}"
    );
    assert!(out.contains("the rounds that are left would lead to epsilon"), "{out}");
    let (code, out, _) = plan(&["--json"]);
    assert_eq!(code, Some(0));
    let object: serde_json::Value = serde_json::from_str(&out).expect("stdout is one JSON object");
    assert_eq!(object["strategy"], serde_json::Value::Null);
    let hospital = &object["hospitals"][0];
    let rounds = hospital["rounds"].as_array().expect("rounds");
    assert_eq!(hospital["leaves_before"], rounds.len() + 1);
    assert!(rounds.iter().all(|round| round["epsilon"].as_f64().expect("a number") <= 4.0));
    let (code, out, err) = plan(&["--set", "privacy.enabled=false"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("there is no budget to plan"), "{err}");
    assert_eq!(dir.path().read_dir().expect("it is ours").count(), 0, "nothing is written");
}
