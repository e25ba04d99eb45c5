//! The figures of the session model: `cargo xtask bench model [--json FILE]`. Natively in this process, then in
//! WebAssembly: in Chromium if there is one, as in the browser tests, else in Node, and the table says in which.
//!
//! Not a test: nothing here passes or fails, and what is printed is what this machine did just now.

// A benchmark's output is meant for a terminal, and it ends where something can't be done.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};
use skein_model_bench::{Figure, Platform, measure};

/// A figure, and where it was measured.
struct Line {
    place: String,
    figure: Figure,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let json_file = match arguments.as_slice() {
        [] => None,
        [option, file] if option == "--json" => Some(file.clone()),
        _ => {
            eprintln!("usage: bench-model [--json FILE]");
            std::process::exit(2);
        }
    };
    let begun = Instant::now();
    let clock = move || begun.elapsed().as_secs_f64() * 1e3;
    let mut lines: Vec<Line> = Vec::new();
    lines.extend(measure(Platform::Native, &clock).into_iter().map(|figure| Line { place: "native".into(), figure }));
    print(&lines);
    let var = |name| std::env::var_os(name).map(PathBuf::from);
    if let Some((module, page)) = var("SKEIN_BENCH_WASM").zip(var("SKEIN_BENCH_PAGE")) {
        let in_wasm = wasm(&module, &page);
        print(&in_wasm);
        lines.extend(in_wasm);
    }
    if let Some(file) = json_file {
        let rows: Vec<Value> = lines
            .iter()
            .map(|Line { place, figure }| {
                json!({
                    "figure": format!("{} ({place})", figure.name.trim()),
                    "value": figure.value,
                    "unit": figure.unit,
                    "target": figure.target,
                })
            })
            .collect();
        std::fs::write(&file, serde_json::to_vec_pretty(&rows).unwrap())
            .unwrap_or_else(|error| panic!("{file}: {error}"));
    }
}

fn print(lines: &[Line]) {
    let Some(first) = lines.first() else { return };
    println!("{}", first.place);
    for Line { figure: Figure { name, value, unit, spread, target }, .. } in lines {
        let spread = spread.map(|(low, high)| format!("  {low:.3}–{high:.3}")).unwrap_or_default();
        let target = target.map(|target| {
            let reached = if *value <= target { "reached" } else { "NOT REACHED" };
            format!("  at most {target}: {reached}")
        });
        println!("  {name:<74} {value:>10.3} {unit:<8}{spread:<22}{}", target.unwrap_or_default());
    }
}

/// Runs the page that measures, on the module in this folder, and reads what it found.
fn wasm(module: &Path, page: &Path) -> Vec<Line> {
    let out = Command::new("node").arg(page).arg(module).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let found: Value = serde_json::from_slice(&out.stdout).unwrap();
    let place = format!("wasm, {}", found["place"].as_str().unwrap());
    let figures = found["figures"].as_array().unwrap();
    let line = |row: &Value| Line {
        place: place.clone(),
        figure: Figure {
            name: row["name"].as_str().unwrap().to_owned(),
            value: row["value"].as_f64().unwrap(),
            unit: ["bytes", "changes", "ms", "kB", "MB", "of it"]
                .into_iter()
                .find(|unit| Some(*unit) == row["unit"].as_str())
                .unwrap_or(""),
            spread: row["low"].as_f64().zip(row["high"].as_f64()),
            target: row["target"].as_f64(),
        },
    };
    figures.iter().map(line).collect()
}
