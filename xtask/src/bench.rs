//! Benchmarks that anyone can run: `cargo xtask bench NAME`. Each is a binary of `tests/`, built in release mode, that
//! prints a table and, with `--json`, a file of figures.

use std::path::PathBuf;

use crate::build;
use crate::step::{Failure, Outcome, step};
use crate::tool::{cargo, root, run};

/// Runs one benchmark.
pub fn run_named(name: &str, json: Option<PathBuf>) -> Outcome {
    if name != "smoke" {
        return Err(Failure(format!("there is no benchmark \"{name}\"; there is: smoke")));
    }
    build::everything()?;
    step("compiling the benchmark", || {
        run(cargo().args(["build", "--quiet", "--release", "--package", "skein-tests", "--bin", "bench-smoke"]))
    })?;
    let [raw, brotli] = build::module_size()?;
    let mut bench = std::process::Command::new(crate::tool::target().join("release/bench-smoke"));
    bench
        .env("SKEIN_BIN", build::binary())
        .env("SKEIN_WEB_DIST", root().join("web/dist"))
        .env("SKEIN_WASM_SIZE", format!("{raw} {brotli}"));
    if let Some(file) = json {
        bench.arg("--json").arg(file);
    }
    run(&mut bench)
}
