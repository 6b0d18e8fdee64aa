//! What axe-core, the checker that accessibility audits use, says about a page.

use crate::driver::Browser;
use serde_json::Value;
use std::sync::OnceLock;

/// The script; nothing, with the reason on stderr, where it is not there.
fn axe() -> Option<&'static str> {
    static SCRIPT: OnceLock<Option<String>> = OnceLock::new();
    let read = || {
        let Some(path) = std::env::var_os("MEDFED_AXE") else {
            let hint = "name the file axe.min.js of axe-core (npm pack axe-core) in MEDFED_AXE";
            assert!(std::env::var_os("CI").is_none(), "accessibility cannot be checked: {hint}");
            eprintln!("accessibility is not checked: {hint}");
            return None;
        };
        Some(std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    };
    SCRIPT.get_or_init(read).as_deref()
}

/// Checks the page that is open; `rules` alone where any are named. No violation is let through, whatever
/// its impact.
pub(crate) fn check(browser: &Browser, page: &str, rules: &[&str]) {
    let Some(axe) = axe() else { return };
    browser.asynchronous(&format!("{axe}; window.axe = axe; done(true);"));
    let options = if rules.is_empty() {
        "{}".to_owned()
    } else {
        serde_json::json!({ "runOnly": { "type": "rule", "values": rules } }).to_string()
    };
    let violations = browser.asynchronous(&format!(
        "axe.run(document, {options}).then((found) => done(found.violations.map((each) => \
         [each.id, each.impact, each.help, each.nodes.map((node) => node.html)])), (error) => done([String(error)]));"
    ));
    assert_eq!(violations, Value::Array(Vec::new()), "{page}");
}
