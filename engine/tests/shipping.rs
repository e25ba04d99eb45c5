//! What tests may do (seed the ids, turn rules off) is in nothing that ships.

use std::path::Path;
use std::process::Command;

#[test]
fn nothing_that_ships_is_built_with_the_feature_for_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let tree = |edges: &str| {
        let cargo = Command::new(env!("CARGO"))
            .current_dir(root)
            .args(["tree", "--offline", "--package", "skein", "--package", "skein-engine", "--edges", edges])
            .args(["--invert", "skein-engine"])
            .output()
            .unwrap();
        assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
        String::from_utf8(cargo.stdout).unwrap()
    };
    let testing = "skein-engine feature \"testing\"";
    assert!(tree("features").contains(testing), "cargo names it where tests have it");
    assert!(!tree("no-dev,features").contains(testing));
    // The browser's module has a manifest and a lock of its own.
    let module = std::fs::read_to_string(root.join("client-wasm/Cargo.toml")).unwrap();
    assert!(module.contains("skein-engine") && !module.contains("testing"));
}
