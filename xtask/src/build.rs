//! From sources to one file: wasm module → web client → binary. Each step is done only when its inputs have changed.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::stamp::unless_fresh;
use crate::step::{Failure, Outcome, step};
use crate::tool::{cargo, command, need_node, read, root, run, target};
use crate::toolchain::{Toolchain, WASM};

/// What the module's JavaScript is called, in `web/src/engine/pkg/`.
const MODULE: &str = "skein_client_wasm";

/// What the compiler uses. With `--all-features` wasm-opt also writes what no browser reads yet (compact imports).
const FEATURES: [&str; 6] =
    ["bulk-memory", "sign-ext", "mutable-globals", "nontrapping-float-to-int", "reference-types", "multivalue"];

/// Builds whatever is missing or out of date: all that `skein serve` needs.
pub fn everything() -> Outcome {
    web_packages()?;
    unless_fresh(
        "wasm module",
        // The engine takes its versions from the workspace.
        &["Cargo.toml", "engine/Cargo.toml", "engine/src", "client-wasm", "xtask/bindgen", "xtask/src"],
        &module(),
        wasm_module,
    )?;
    let web = unless_fresh(
        "web client",
        &["web", "web/src/engine/pkg", "xtask/scripts"],
        &root().join("web/dist/index.html"),
        web_client,
    )?;
    let binary = unless_fresh(
        "skein, in release mode",
        &["Cargo.toml", "Cargo.lock", "engine", "relay", "client", "worker", "cli", "web/dist"],
        &binary(),
        || run(cargo().args(["build", "--release", "--package", "skein", "--bin", "skein"])),
    )?;
    if web || binary {
        print_sizes()?;
    }
    Ok(())
}

/// The binary that [`everything`] makes.
pub fn binary() -> PathBuf {
    target().join("release/skein")
}

/// The module that [`everything`] makes.
pub fn module() -> PathBuf {
    root().join("web/src/engine/pkg").join(format!("{MODULE}_bg.wasm"))
}

/// Becomes `skein serve`: signals, output and exit code are its own.
pub fn serve(data: Option<PathBuf>, listen: &str) -> Outcome {
    let data = data.unwrap_or_else(|| root().join("data"));
    let error = Command::new(binary()).arg("serve").arg("--data").arg(data).args(["--listen", listen]).exec();
    Err(Failure(format!("{} could not be started: {error}", binary().display())))
}

/// Installs the web client's packages, which also build the module and test it.
fn web_packages() -> Outcome<bool> {
    npm_packages("npm packages of the web client", "web")
}

/// Installs the packages that a folder's lock file names.
pub fn npm_packages(title: &str, directory: &str) -> Outcome<bool> {
    let lock = format!("{directory}/package-lock.json");
    let installed = root().join(directory).join("node_modules/.package-lock.json");
    unless_fresh(title, &[&lock], &installed, || {
        need_node()?;
        run(command("npm", directory).args(["ci", "--no-audit", "--no-fund", "--loglevel", "error"]))
    })
}

/// Compiles `client-wasm`, writes the JavaScript beside it, and makes it small.
fn wasm_module() -> Outcome {
    make_module(&[], &root().join("web/src/engine/pkg"))
}

/// The module with the figures of the session model in it, built as the one that ships, in a folder of its own: that
/// folder.
pub fn bench_module() -> Outcome<PathBuf> {
    let folder = target().join("xtask/bench-module");
    web_packages()?;
    unless_fresh(
        "wasm module with the benchmark",
        &["Cargo.toml", "engine/Cargo.toml", "engine/src", "client-wasm", "tests/model", "xtask/bindgen", "xtask/src"],
        &folder.join(format!("{MODULE}_bg.wasm")),
        // The other's target folder, for what both are made of; what is linked last isn't read from there again.
        || make_module(&["--features", "bench"], &folder),
    )?;
    Ok(folder)
}

fn make_module(options: &[&str], folder: &Path) -> Outcome {
    let toolchain = Toolchain::find()?;
    check_bindgen_versions()?;
    step("compiling client-wasm", || {
        run(toolchain
            .cargo("client-wasm")
            .args(["build", "--locked", "--release", "--target", WASM, "--target-dir", "target"])
            .args(options))
    })?;
    step("compiling and running wasm-bindgen", || {
        let compiled = root().join("client-wasm/target").join(WASM).join("release");
        run(cargo()
            .current_dir(root().join("xtask/bindgen"))
            .args(["run", "--quiet", "--locked", "--target-dir", "target", "--"])
            .args([compiled.join(format!("{MODULE}.wasm")), folder.to_owned(), PathBuf::from(MODULE)]))
    })?;
    step("wasm-opt -Oz", || {
        let module = folder.join(format!("{MODULE}_bg.wasm"));
        let small = module.with_extension("small");
        run(command("node_modules/.bin/wasm-opt", "web")
            .arg("-Oz")
            .args(FEATURES.map(|feature| format!("--enable-{feature}")))
            .arg(&module)
            .arg("-o")
            .arg(&small))?;
        fs::rename(&small, &module).map_err(|error| Failure(format!("{} can't be written: {error}", module.display())))
    })
}

/// The module names the version of wasm-bindgen that it was built with, and no other can read it.
fn check_bindgen_versions() -> Outcome {
    let module = locked_version("client-wasm/Cargo.lock", "wasm-bindgen")?;
    let library = locked_version("xtask/bindgen/Cargo.lock", "wasm-bindgen-cli-support")?;
    if module == library {
        return Ok(());
    }
    Err(Failure(format!(
        "client-wasm is locked to wasm-bindgen {module}, xtask/bindgen to {library}: set the version in \
         xtask/bindgen/Cargo.toml to {module}"
    )))
}

fn locked_version(lock: &str, package: &str) -> Outcome<String> {
    let text =
        fs::read_to_string(root().join(lock)).map_err(|error| Failure(format!("{lock} can't be read: {error}")))?;
    let mut lines = text.lines().skip_while(|line| *line != format!("name = \"{package}\""));
    let version =
        lines.nth(1).and_then(|line| line.strip_prefix("version = \"")).map(|rest| rest.trim_end_matches('"'));
    version.map(str::to_owned).ok_or_else(|| Failure(format!("{lock} doesn't name {package}")))
}

/// Builds the static files and their compressed siblings.
fn web_client() -> Outcome {
    run(command("npm", "web").args(["run", "--silent", "build"]))?;
    let dist = root().join("web/dist");
    step("compressing the web client", || run(command("node", "xtask/scripts").arg("precompress.mjs").arg(&dist)))
}

/// The build's last line: what a browser has to fetch before it can do anything.
fn print_sizes() -> Outcome {
    let [raw, brotli] = module_size()?;
    println!("wasm module: {} KB raw, {} KB brotli", raw.div_ceil(1000), brotli.div_ceil(1000));
    Ok(())
}

/// Bytes of the module, raw and brotli.
pub fn module_size() -> Outcome<[u64; 2]> {
    let printed = read(command("node", "xtask/scripts").arg("size.mjs").arg(module()))?;
    let mut words = printed.split(' ').filter_map(|word| word.parse().ok());
    match (words.next(), words.next()) {
        (Some(raw), Some(brotli)) => Ok([raw, brotli]),
        _ => Err(Failure(format!("size.mjs printed \"{printed}\""))),
    }
}

/// Takes in a newer table of published prices, and checks what is made of it.
pub fn prices(file: &str) -> Outcome {
    let file = std::path::absolute(file).map_err(|error| Failure(error.to_string()))?;
    run(cargo().args(["run", "--quiet", "--package", "skein-worker", "--example", "prices", "--"]).arg(file))?;
    run(cargo().args(["test", "--quiet", "--package", "skein-worker", "--lib", "prices"]))
}
