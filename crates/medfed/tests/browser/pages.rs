//! Every page, in light and dark, on a desk and on a phone.

use crate::accessibility;
use crate::driver::Browser;
use crate::server::{Dashboard, fresh, two_runs};
use serde_json::json;

/// The pages of the navigation.
const PAGES: [&str; 10] = [
    "/",
    "/clinical",
    "/technical",
    "/privacy",
    "/fairness",
    "/training",
    "/sites",
    "/runs",
    "/audit",
    "/docs",
];

/// Opens a page in light and dark and at the width of a phone: no complaint of the console, nothing wider
/// than the window, no violation of accessibility.
fn is_sound(browser: &Browser, dashboard: &Dashboard, path: &str) {
    browser.go(&dashboard.at(path));
    browser.wait_for_parts();
    let bytes = "fetch(location).then((answer) => answer.arrayBuffer()).then((all) => done(all.byteLength))";
    let bytes = browser.asynchronous(bytes).as_u64();
    assert!(bytes.is_some_and(|bytes| bytes < 100_000), "{path} has {bytes:?} bytes");
    for (dark, width) in [(false, 1280), (true, 1280), (false, 390)] {
        browser.dark(dark);
        browser.window(width, 900);
        let page = format!("{path}, dark: {dark}, {width} pixels");
        let wide = browser.script(
            "return document.documentElement.scrollWidth <= innerWidth ? null : \
             [...document.querySelectorAll('main *')].filter((element) => element.getBoundingClientRect().right > innerWidth + 1) \
             .slice(0, 3).map((element) => element.outerHTML.slice(0, 200))",
        );
        assert_eq!(wide, json!(null), "{page} is wider than the window");
        let rules: &[&str] = match (dark, width) {
            (true, _) => &["color-contrast"],
            (_, 390) => &["scrollable-region-focusable", "target-size", "color-contrast"],
            _ => &[],
        };
        accessibility::check(browser, &page, rules);
    }
    browser.window(1280, 900);
    assert_eq!(browser.console(), Vec::<String>::new(), "{path}");
}

#[test]
fn every_page_of_an_empty_folder_is_sound() {
    let Some(browser) = Browser::open() else { return };
    let dashboard = Dashboard::start(&fresh("empty"), &[]);
    for path in PAGES {
        is_sound(&browser, &dashboard, path);
    }
    browser.go(&dashboard.at("/"));
    assert!(browser.text("main").contains("No run yet"));
}

#[test]
fn every_page_of_finished_runs_is_sound() {
    let Some(browser) = Browser::open() else { return };
    let dashboard = Dashboard::start(two_runs(), &[]);
    for path in PAGES {
        is_sound(&browser, &dashboard, path);
    }
}

/// What a chart offers beside its picture.
#[test]
fn charts_answer_to_the_keyboard_and_can_be_taken_along() {
    let Some(browser) = Browser::open() else { return };
    let folder = fresh("downloads");
    let dashboard = Dashboard::start(two_runs(), &[]);
    let target = json!({ "behavior": "allow", "downloadPath": folder.to_str().expect("it is UTF-8") });
    browser.devtools("Browser.setDownloadBehavior", &target);
    browser.go(&dashboard.at("/"));
    browser.wait("the legend", "document.querySelector('#figure-loss .legend button')");

    browser.script("document.querySelector('#figure-loss .picture').focus()");
    // Home, right, left, end, escape, by WebDriver's codes.
    browser.press("\u{e011}");
    assert!(browser.text("#figure-loss .reading").starts_with("round 1: training "));
    browser.press("\u{e014}\u{e014}\u{e012}");
    assert!(browser.text("#figure-loss .reading").starts_with("round 2: training "));
    browser.press("\u{e010}");
    assert!(browser.text("#figure-loss .reading").starts_with("round 4: training "));
    assert_eq!(
        browser.script("return document.querySelectorAll('#figure-loss .crosshair').length"),
        json!(1)
    );
    browser.press("\u{e00c}");
    assert_eq!(browser.text("#figure-loss .reading"), "");
    assert_eq!(
        browser.script("return document.querySelectorAll('#figure-loss .crosshair').length"),
        json!(0)
    );

    let training = "#figure-loss button[data-toggle='0']";
    browser.click(training);
    let pressed = format!("return document.querySelector(\"{training}\").getAttribute('aria-pressed')");
    assert_eq!(browser.script(&pressed), json!("false"));
    browser.script("document.querySelector('#figure-loss .picture').focus()");
    browser.press("\u{e011}");
    assert!(
        browser.text("#figure-loss .reading").starts_with("round 1: validation "),
        "a hidden series is not read"
    );
    browser.click(training);
    assert_eq!(browser.script(&pressed), json!("true"));

    browser.click("#figure-loss summary");
    browser.click("#figure-loss [data-save='csv']");
    browser.click("#figure-loss [data-save='svg']");
    let saved = |name: &str| {
        let path = folder.join(name);
        let deadline = std::time::Instant::now() + std::time::Duration::from_mins(1);
        while !path.exists() {
            assert!(std::time::Instant::now() < deadline, "{} does not arrive", path.display());
            // Waits for the browser, not for the clock.
            browser.asynchronous("requestIdleCallback(() => done(true), { timeout: 100 })");
        }
        std::fs::read_to_string(path).expect("it can be read")
    };
    let numbers = saved("loss.csv");
    let mut lines = numbers.lines();
    assert_eq!(lines.next(), Some("round,training,validation"));
    assert_eq!(lines.count(), 4, "{numbers}");
    let picture = saved("loss.svg");
    assert!(picture.starts_with("<svg") && picture.contains("http://www.w3.org/2000/svg"), "{picture}");
}

#[test]
fn without_script_everything_can_be_read() {
    let Some(browser) = Browser::open() else { return };
    let dashboard = Dashboard::start(two_runs(), &[]);
    browser.devtools("Emulation.setScriptExecutionDisabled", &json!({ "value": true }));
    browser.go(&dashboard.at("/"));
    assert!(browser.text("#metrics").contains("AUC"));
    browser.click("#figure-loss summary");
    assert!(browser.text("#figure-loss table").contains("validation"));
    browser.go(&dashboard.at("/technical"));
    browser.click("#evaluation a");
    assert!(browser.text("main").contains("Performance on the test set"));
    browser.go(&dashboard.at("/training"));
    assert!(browser.text("noscript").contains("edit the file"));
    browser.go(&dashboard.at("/audit"));
    browser.click("#verify");
    assert!(browser.text("#verified").contains("Verified: the log is sound."));
    browser.go(&dashboard.at("/runs"));
    browser.click("tbody tr:nth-child(1) input[name=run]");
    browser.click("tbody tr:nth-child(2) input[name=compare]");
    browser.click("main form button");
    assert!(browser.text("#comparison").contains("robust_aggregation.method"));
}

#[test]
fn an_attack_and_unfairness_are_told_and_runs_are_compared() {
    let Some(browser) = Browser::open() else { return };
    let dashboard = Dashboard::start(two_runs(), &[]);
    browser.go(&dashboard.at("/"));
    let verdict = browser.text("#verdict");
    assert!(verdict.contains("finding") && verdict.contains("not met"), "{verdict}");
    browser.go(&dashboard.at("/fairness"));
    assert!(browser.text("#answer-head").contains("in the newest measured round"));
    assert!(browser.text("#fairness-course").contains("Numbers"));
    browser.go(&dashboard.at("/runs"));
    browser.click("tbody tr:nth-child(1) input[name=run]");
    browser.click("tbody tr:nth-child(2) input[name=compare]");
    browser.click("main form button");
    browser.wait("the comparison", "document.querySelector('#comparison')");
    accessibility::check(&browser, "the comparison of two runs", &[]);
    assert!(browser.text("#comparison").contains("federated.num_clients"));

    // The older run, on every page that is about one.
    browser.go(&dashboard.at("/runs"));
    browser.click("tbody tr:nth-child(2) th a");
    browser.wait("the older run", "location.search.startsWith('?run=')");
    assert!(browser.text("#verdict").contains("Updates were masked"));
    for path in ["/clinical", "/technical", "/privacy", "/fairness", "/sites", "/audit"] {
        browser.click(&format!("nav a[href^='{path}']"));
        browser.wait(path, &format!("location.pathname === '{path}' && location.search.startsWith('?run=')"));
    }
    browser.click("#verify");
    browser.wait("the verdict", "document.querySelector('#verified')");
    assert!(browser.text("#verified").contains("Verified: the log is sound."));
    accessibility::check(&browser, "a verified audit log", &[]);
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn what_is_not_there_has_a_page_of_its_own() {
    let Some(browser) = Browser::open() else { return };
    let folder = fresh("broken");
    let dashboard = Dashboard::start(two_runs(), &[]);
    for path in ["/nowhere", "/technical?run=20200101-000000-0000"] {
        browser.go(&dashboard.at(path));
        assert!(browser.text("h1").contains("not found"));
        accessibility::check(&browser, path, &[]);
        assert!(browser.console().iter().all(|line| line.contains("404")));
    }
    // A store that is no database.
    std::fs::create_dir(folder.join("results")).expect("the folder can be written");
    std::fs::write(folder.join("results/medfed.sqlite"), "no database").expect("the folder can be written");
    let dashboard = Dashboard::start(&folder, &[]);
    browser.go(&dashboard.at("/"));
    assert!(browser.text("main").contains("cannot be read"), "{}", browser.text("main"));
    accessibility::check(&browser, "a folder that cannot be read", &[]);
}
