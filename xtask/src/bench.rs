//! Benchmarks that anyone can run: `cargo xtask bench NAME`. Each is a binary of `tests/`, built in release mode, that
//! prints a table and, with `--json`, a file of figures.

use std::path::PathBuf;
use std::process::Command;

use crate::build;
use crate::step::{Failure, Outcome, step};
use crate::tool::{cargo, root, run};

/// Runs one benchmark.
pub fn run_named(name: &str, json: Option<PathBuf>) -> Outcome {
    match name {
        "smoke" => smoke(json),
        "model" => model(json),
        "query" => example("skein-relay", "bench_query", json),
        "worker" => example("skein-worker", "bench_worker", json),
        _ => Err(Failure(format!("there is no benchmark \"{name}\"; there are: smoke, model, query, worker"))),
    }
}

fn smoke(json: Option<PathBuf>) -> Outcome {
    build::everything()?;
    let mut bench = compile("bench-smoke")?;
    let [raw, brotli] = build::module_size()?;
    bench
        .env("SKEIN_BIN", build::binary())
        .env("SKEIN_WEB_DIST", root().join("web/dist"))
        .env("SKEIN_WASM_SIZE", format!("{raw} {brotli}"));
    finish(bench, json)
}

/// Natively, and in a module of its own that is built as the one that ships.
fn model(json: Option<PathBuf>) -> Outcome {
    let module = build::bench_module()?;
    let mut bench = compile("bench-model")?;
    bench.env("SKEIN_BENCH_WASM", module).env("SKEIN_BENCH_PAGE", root().join("web/tests/bench-model.mjs"));
    finish(bench, json)
}

/// One that reaches into a crate (the relay's own files, the worker's tests), so it is an example of that crate.
fn example(package: &str, name: &str, json: Option<PathBuf>) -> Outcome {
    step("compiling the benchmark", || {
        run(cargo().args(["build", "--quiet", "--release", "--package", package, "--example", name]))
    })?;
    finish(Command::new(crate::tool::target().join("release/examples").join(name)), json)
}

fn compile(name: &str) -> Outcome<Command> {
    step("compiling the benchmark", || {
        run(cargo().args(["build", "--quiet", "--release", "--package", "skein-tests", "--bin", name]))
    })?;
    Ok(Command::new(crate::tool::target().join("release").join(name)))
}

fn finish(mut bench: Command, json: Option<PathBuf>) -> Outcome {
    if let Some(file) = json {
        bench.arg("--json").arg(file);
    }
    run(&mut bench)
}
