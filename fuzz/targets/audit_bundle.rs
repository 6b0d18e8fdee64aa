//! An exported audit log: the verifier finds it sound or says what is wrong.
#![no_main]

use libfuzzer_sys::fuzz_target;
use medfed_audit::{Bundle, Expectations, verify};

fuzz_target!(|data: &[u8]| {
    if let Ok(bundle) = Bundle::parse(data) {
        let _ = verify(&bundle, &Expectations::default());
    }
});
