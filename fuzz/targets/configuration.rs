//! A configuration: accepted or refused; what is accepted is the same after it was written and read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use medfed_config::Config;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(config) = Config::from_yaml(text, "fuzz.yaml", &[]) {
        let again = Config::from_yaml(&config.to_yaml(), "again.yaml", &[]);
        assert_eq!(again.map(|it| it.hash()).ok(), Some(config.hash()));
    }
});
