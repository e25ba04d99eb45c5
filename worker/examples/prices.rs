//! Takes in a published price table: `cargo xtask prices FILE` calls it. Reads genai-prices' `data_slim.json` and writes
//! what is used of it to `worker/data/genai-prices.json`.

use std::error::Error;

use skein_worker::prices::Table;

fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args().nth(1).ok_or("which file? give the path of genai-prices' data_slim.json")?;
    let table = Table::parse(&std::fs::read(file)?)?;
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/data/genai-prices.json"), table.json())?;
    Ok(())
}
