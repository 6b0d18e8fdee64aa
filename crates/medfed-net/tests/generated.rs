//! The committed code is what `proto/federation.proto` gives.

use std::path::Path;

#[test]
fn the_committed_code_is_what_the_protocol_gives() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempfile::tempdir().unwrap();
    let described = protox::compile(["federation.proto"], [root.join("proto")]).unwrap();
    tonic_prost_build::configure().bytes(".").out_dir(out.path()).compile_fds(described).unwrap();
    let made = std::fs::read_to_string(out.path().join("medfed.v1.rs")).unwrap();
    let kept = root.join("src/generated/medfed.v1.rs");
    if std::env::var_os("MEDFED_REGENERATE").is_some() {
        std::fs::write(&kept, &made).unwrap();
    }
    assert!(
        std::fs::read_to_string(&kept).unwrap_or_default() == made,
        "{} is not what the protocol gives: run this test with MEDFED_REGENERATE=1",
        kept.display()
    );
}
