//! Pictures of the pages: of a small run into a temporary folder, or of a run of choice for the documentation.

use crate::driver::Browser;
use crate::server::{Dashboard, fresh, two_runs};
use std::path::PathBuf;

/// Name, page, width and height in pixels, and whether it is dark.
const PICTURES: [(&str, &str, u32, u32, bool); 4] = [
    ("dashboard", "/", 1280, 960, false),
    ("dashboard-technical-dark", "/technical", 1280, 960, true),
    ("dashboard-clinical-phone", "/clinical", 390, 844, false),
    ("dashboard-phone-dark", "/", 390, 844, true),
];

/// With `MEDFED_PICTURES` naming a folder and `MEDFED_PICTURES_OF` a folder that has a folder `results`,
/// this makes the pictures of the documentation (`cargo xtask screenshots`).
#[test]
fn pages_can_be_pictured_in_light_and_dark_and_on_a_phone() {
    let Some(browser) = Browser::open() else { return };
    let folder = |variable: &str| std::env::var_os(variable).map(PathBuf::from);
    let target = folder("MEDFED_PICTURES").unwrap_or_else(|| fresh("pictures"));
    let shown = folder("MEDFED_PICTURES_OF").unwrap_or_else(|| two_runs().to_owned());
    let dashboard = Dashboard::start(&shown, &[]);
    for (name, page, width, height, dark) in PICTURES {
        browser.dark(dark);
        browser.window(width, height);
        browser.go(&dashboard.at(page));
        browser.wait_for_parts();
        let picture = browser.picture();
        assert!(picture.starts_with(b"\x89PNG\r\n\x1a\n"), "{name}");
        // The header of a PNG file gives its size at once.
        let number = |at: usize| u32::from_be_bytes(picture[at..at + 4].try_into().expect("it is there"));
        assert_eq!((number(16), number(20)), (width, height), "{name}");
        std::fs::write(target.join(format!("{name}.png")), picture).expect("the folder can be written");
    }
}
