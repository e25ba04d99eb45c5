//! Writes the JavaScript and the types beside a wasm module, as `wasm-bindgen --target web` does.
//!
//! In: `IN.wasm OUT_DIR NAME`. Out: `NAME.js`, `NAME.d.ts` and `NAME_bg.wasm` in `OUT_DIR`. A library in place of the
//! command, so that one lock file holds both versions that must be equal.

use std::process::ExitCode;

use wasm_bindgen_cli_support::Bindgen;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, directory, name] = arguments.as_slice() else {
        eprintln!("usage: skein-bindgen IN.wasm OUT_DIR NAME");
        return ExitCode::from(2);
    };
    let mut bindgen = Bindgen::new();
    let result =
        bindgen.input_path(input).out_name(name).typescript(true).web(true).and_then(|web| web.generate(directory));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wasm-bindgen: {error:#}");
            ExitCode::FAILURE
        }
    }
}
