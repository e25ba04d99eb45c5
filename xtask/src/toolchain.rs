//! A compiler for wasm32: rustup's where it can add the target; else Debian's `rustc-web`, with a `std` that is built
//! once from Debian's sources and cached as a sysroot under the compiler's version.
//!
//! rustup's compiler can only use a `std` of its own exact version, which is why the second way brings a compiler too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::step::{Failure, Outcome, step};
use crate::tool::{apt_install, cache, read, root, run};

/// The target of the browser's module.
pub const WASM: &str = "wasm32-unknown-unknown";

/// Debian's compiler for the web, its sources, and what builds them.
const PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "rust-web-llvm"];

/// A way to compile for [`WASM`].
pub enum Toolchain {
    /// rustup's, with the target added.
    Rustup,
    /// Debian's compiler on a sysroot of our own, linked with rustup's `rust-lld`.
    Debian {
        /// The cached sysroot.
        sysroot: PathBuf,
        /// The linker.
        linker: PathBuf,
    },
}

impl Toolchain {
    /// Finds one, or makes one. `SKEIN_WASM_TOOLCHAIN=debian` skips rustup.
    pub fn find() -> Outcome<Self> {
        let rustup_allowed = std::env::var("SKEIN_WASM_TOOLCHAIN").as_deref() != Ok("debian");
        let native = PathBuf::from(read(Command::new("rustc").args(["--print", "sysroot"]))?);
        if rustup_allowed {
            if native.join("lib/rustlib").join(WASM).join("lib").is_dir() {
                return Ok(Self::Rustup);
            }
            let added = step(&format!("rustup target add {WASM}"), || {
                run(Command::new("rustup").args(["target", "add", WASM]).current_dir(root()))
            });
            if added.is_ok() {
                return Ok(Self::Rustup);
            }
        }
        if !Path::new("/etc/debian_version").exists() {
            let how = format!("rustup target add {WASM}");
            return Err(Failure(format!("this compiler has no {WASM} target, and `{how}` failed: add it by hand")));
        }
        if !Path::new("/usr/bin/rustc").exists() || !Path::new("/usr/bin/cargo").exists() {
            apt_install("a compiler for wasm", &PACKAGES)?;
        }
        let host = read(Command::new("rustc").args(["--print", "host-tuple"]))?;
        let linker = native.join("lib/rustlib").join(host).join("bin/rust-lld");
        Ok(Self::Debian { sysroot: debian_sysroot()?, linker })
    }

    /// A cargo command for [`WASM`] in `directory`, relative to the repository.
    pub fn cargo(&self, directory: &str) -> Command {
        match self {
            Self::Rustup => {
                let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
                cargo.current_dir(root().join(directory));
                cargo
            }
            Self::Debian { sysroot, linker } => {
                let mut cargo = debian_cargo(&root().join(directory));
                cargo
                    .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker)
                    .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", format!("--sysroot {}", sysroot.display()));
                cargo
            }
        }
    }

    /// Whether this compiler can run clippy.
    pub fn has_clippy(&self) -> bool {
        matches!(self, Self::Rustup)
    }
}

/// `/usr/bin/cargo` with `/usr/bin/rustc`, whatever rustup and its cargo have set for this process.
fn debian_cargo(directory: &Path) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut cargo = Command::new("/usr/bin/cargo");
    cargo.current_dir(directory).env("PATH", format!("/usr/bin:{path}")).env("RUSTC", "/usr/bin/rustc");
    for set_by_rustup in ["CARGO", "RUSTUP_TOOLCHAIN", "RUSTC_WRAPPER", "LD_LIBRARY_PATH"] {
        cargo.env_remove(set_by_rustup);
    }
    cargo
}

fn debian_sysroot() -> Outcome<PathBuf> {
    let version = read(Command::new("/usr/bin/rustc").arg("--version"))?;
    let name: String = version.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    let sysroot = cache()?.join("wasm-sysroot").join(name.trim_matches('-'));
    if sysroot.is_dir() {
        return Ok(sysroot);
    }
    step(&format!("building std for {WASM} with {version}"), || {
        let scratch = cache()?.join(format!("wasm-std.{}", std::process::id()));
        let built = build_std(&scratch).and_then(|libraries| install(&libraries, &scratch, &sysroot));
        let _ = fs::remove_dir_all(&scratch);
        built
    })?;
    Ok(sysroot)
}

/// Builds `std` as the dependency of an empty crate; returns the folder of its libraries.
fn build_std(scratch: &Path) -> Outcome<PathBuf> {
    let written = || {
        fs::create_dir_all(scratch.join("src"))?;
        fs::write(scratch.join("src/lib.rs"), "#![no_std]\n")?;
        fs::write(
            scratch.join("Cargo.toml"),
            "[package]\nname = \"empty\"\nversion = \"0.0.0\"\nedition = \"2021\"\n[workspace]\n",
        )
    };
    written().map_err(|error| Failure(format!("{} can't be written: {error}", scratch.display())))?;
    run(debian_cargo(scratch)
        .env("RUSTC_BOOTSTRAP", "1")
        // Without it a build with LTO on this std fails.
        .env("RUSTFLAGS", "-C embed-bitcode=yes")
        .args(["build", "-Zbuild-std=std,panic_abort", "--target", WASM, "--release", "--target-dir"])
        .arg(scratch.join("target")))?;
    Ok(scratch.join("target").join(WASM).join("release/deps"))
}

/// Copies the libraries into a sysroot, which appears whole or not at all.
fn install(libraries: &Path, scratch: &Path, sysroot: &Path) -> Outcome {
    let staged = scratch.join("sysroot");
    let copied = || {
        let lib = staged.join("lib/rustlib").join(WASM).join("lib");
        fs::create_dir_all(&lib)?;
        for entry in fs::read_dir(libraries)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("").to_owned();
            if name.ends_with(".rlib") && !name.starts_with("libempty-") {
                fs::copy(&path, lib.join(name))?;
            }
        }
        fs::create_dir_all(sysroot.parent().expect("the sysroot lies in the cache"))?;
        fs::rename(&staged, sysroot)
    };
    copied().map_err(|error: std::io::Error| Failure(format!("{} can't be made: {error}", sysroot.display())))
}
