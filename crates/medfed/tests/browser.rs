//! The dashboard in a real browser: every page in every state, and every control.
//!
//! Needs `chromium` and `chromedriver`; accessibility is checked where `MEDFED_AXE` names the file
//! `axe.min.js` of axe-core. Without them the tests are skipped, except under continuous integration (`CI`).
#![expect(clippy::print_stderr, reason = "whoever runs the tests is told what was left out")]

#[path = "browser/accessibility.rs"]
mod accessibility;
#[path = "browser/control.rs"]
mod control;
#[path = "browser/driver.rs"]
mod driver;
#[path = "browser/pages.rs"]
mod pages;
#[path = "browser/pictures.rs"]
mod pictures;
#[path = "browser/server.rs"]
mod server;
