//! Training, started and stopped from the pages; the form of its parameters; logging in.

use crate::accessibility;
use crate::driver::Browser;
use crate::server::{Dashboard, SMALL, fresh, medfed};
use serde_json::json;

const PASSWORD: &str = "correct horse battery staple";
/// What the overview says of the rounds that are done, as a number.
const ROUNDS: &str =
    "Number(document.querySelector('#figure-quality tbody tr:last-child td')?.textContent ?? 0)";

/// Waits until the badge of a page says this.
fn says(browser: &Browser, text: &str) {
    browser.wait(text, &format!("document.querySelector('#state').textContent.includes('{text}')"));
}

#[test]
fn a_run_is_started_watched_paused_resumed_and_stopped() {
    let Some(browser) = Browser::open() else { return };
    let folder = fresh("control");
    let long = SMALL.replace("num_rounds: 4", "num_rounds: 60").replace("local_steps: 3", "local_steps: 12");
    std::fs::write(folder.join("long.yaml"), long).expect("the folder can be written");
    let dashboard = Dashboard::start(&folder, &["--config", "long.yaml"]);

    // One tab watches the overview and is never loaded again; the other one has the controls.
    browser.go(&dashboard.at("/"));
    browser.script("window.never = 'loaded again'");
    let overview = browser.tab();
    browser.new_tab();
    let controls = browser.tab();
    browser.go(&dashboard.at("/training"));
    browser.click("#button-start");
    browser.wait("the answer to the start", "!document.querySelector('#answer').hidden");
    browser.wait("the run", "document.querySelector('#button-start').disabled && !document.querySelector('#button-pause').disabled");
    browser.to_tab(&overview);
    browser.wait("a round", &format!("{ROUNDS} >= 1"));
    let first = browser.script(&format!("return {ROUNDS}"));
    browser.wait("another round", &format!("{ROUNDS} > {first}"));
    assert_eq!(browser.script("return window.never"), json!("loaded again"));
    browser.wait("the course of the round", "document.querySelector('#round progress')");
    accessibility::check(&browser, "the overview while a run trains", &[]);

    browser.to_tab(&controls);
    accessibility::check(&browser, "/training while a run trains", &[]);
    browser.click("#button-pause");
    says(&browser, "Paused in round");
    let paused = browser.text("#state");
    browser.wait("what can be done now", "!document.querySelector('#button-resume').disabled && !document.querySelector('#button-start').disabled");
    accessibility::check(&browser, "/training of a paused run", &[]);
    browser.to_tab(&overview);
    says(&browser, "Paused in round");
    let done = browser.script(&format!("return {ROUNDS}"));

    browser.to_tab(&controls);
    assert_eq!(browser.text("#state"), paused, "nothing goes on while it is paused");
    browser.click("#button-resume");
    browser.to_tab(&overview);
    browser.wait("a round after the pause", &format!("{ROUNDS} > {done}"));
    browser.to_tab(&controls);
    browser.wait("the button", "!document.querySelector('#button-stop').disabled");
    browser.click("#button-stop");
    browser.accept();
    says(&browser, "Stopped after");
    browser.to_tab(&overview);
    says(&browser, "Stopped after");
    assert!(browser.text("#verdict").contains("can be resumed"));
    assert_eq!(browser.script("return window.never"), json!("loaded again"));
    browser.go(&dashboard.at("/privacy"));
    assert!(browser.text("#answer-head").contains("Within the budget."));
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn a_wrong_parameter_is_refused_at_its_field_and_a_right_one_is_saved() {
    let Some(browser) = Browser::open() else { return };
    let folder = fresh("form");
    std::fs::write(folder.join("small.yaml"), SMALL).expect("the folder can be written");
    let dashboard = Dashboard::start(&folder, &["--config", "small.yaml"]);
    browser.go(&dashboard.at("/training"));
    let rounds = "#field-federated-num_rounds";
    // A section that is closed opens where something is wrong in it.
    browser.script(
        "document.querySelectorAll('#parameters details').forEach((details) => { details.open = true; })",
    );
    browser.fill(rounds, "0");
    browser.script(
        "document.querySelectorAll('#parameters details').forEach((details) => { details.open = false; })",
    );
    browser.click("#parameters button[type=submit]");
    browser.wait("the refusal", &format!("document.querySelector('{rounds}-error')"));
    assert!(
        browser.text(&format!("{rounds}-error")).contains("from 1"),
        "{}",
        browser.text(&format!("{rounds}-error"))
    );
    assert_eq!(browser.script("return document.activeElement.id"), json!("field-federated-num_rounds"));
    assert_eq!(browser.script("return document.activeElement.getAttribute('aria-invalid')"), json!("true"));
    accessibility::check(&browser, "/training with a mistake", &[]);
    assert!(read(&folder).contains("num_rounds: 4"));

    browser.fill(rounds, "7");
    browser.click("#parameters button[type=submit]");
    browser.wait("the answer", "document.querySelector('#saved').className === 'notice'");
    assert!(read(&folder).contains("num_rounds: 7"), "{}", read(&folder));
    // The refusal of the server is all that the console may tell.
    assert!(browser.console().iter().all(|line| line.contains("422")));
}

fn read(folder: &std::path::Path) -> String {
    std::fs::read_to_string(folder.join("small.yaml")).expect("the configuration is there")
}

#[test]
fn a_start_that_fails_says_why() {
    let Some(browser) = Browser::open() else { return };
    let folder = fresh("failing");
    let missing = SMALL.replace("data:\n", "data:\n  dataset: files\n  data_dir: nowhere\n");
    std::fs::write(folder.join("missing.yaml"), missing).expect("the folder can be written");
    let dashboard = Dashboard::start(&folder, &["--config", "missing.yaml"]);
    browser.go(&dashboard.at("/training"));
    browser.click("#button-start");
    browser.wait("the reason", "document.querySelector('#controls [role=alert]')");
    assert!(browser.text("#controls").contains("nowhere"), "{}", browser.text("#controls"));
    accessibility::check(&browser, "/training after a failure", &[]);
    browser.go(&dashboard.at("/"));
    assert!(browser.text("main").contains("nowhere"), "{}", browser.text("main"));
}

#[test]
fn a_viewer_reads_everything_and_is_offered_no_control() {
    let Some(browser) = Browser::open() else { return };
    let folder = fresh("viewer");
    std::fs::write(folder.join("small.yaml"), SMALL).expect("the folder can be written");
    for (name, role) in [("ada", "operator"), ("eve", "viewer")] {
        let arguments = ["dashboard", "user", "add", name, "--role", role, "--users", "users.json"];
        medfed(&folder, &arguments, &format!("{PASSWORD}\n"), &[0]);
    }
    let dashboard = Dashboard::start(&folder, &["--config", "small.yaml", "--users", "users.json"]);
    let log_in = |name: &str, password: &str| {
        browser.fill("#name", name);
        browser.fill("#password", password);
        browser.click("form[action='/login'] button");
    };

    browser.go(&dashboard.at("/training"));
    browser.wait("the login", "location.pathname === '/login'");
    accessibility::check(&browser, "/login", &[]);
    log_in("eve", "another long password");
    browser.wait("the refusal", "document.querySelector('[role=alert]')");
    assert!(browser.text("[role=alert]").contains("Name or password is wrong"));
    accessibility::check(&browser, "/login after a wrong password", &[]);
    log_in("eve", PASSWORD);
    browser.wait("the page that was asked for", "location.pathname === '/training'");
    assert_eq!(
        browser.script("return document.querySelectorAll('#controls button:enabled').length"),
        json!(0)
    );
    assert_eq!(
        browser.script("return document.querySelectorAll('#parameters [type=submit]').length"),
        json!(0)
    );
    assert!(browser.text("#controls").contains("operator"));
    accessibility::check(&browser, "/training of a viewer", &[]);

    browser.go(&dashboard.at("/login"));
    browser.click("form[action='/logout'] button");
    browser.wait("the login", "location.pathname === '/login'");
    browser.go(&dashboard.at("/training"));
    browser.wait("the login", "location.pathname === '/login'");
    log_in("ada", PASSWORD);
    browser.wait("the page that was asked for", "location.pathname === '/training'");
    assert_eq!(browser.script("return document.querySelector('#button-start').disabled"), json!(false));
}
