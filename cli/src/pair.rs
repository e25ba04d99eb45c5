//! `skein pair`: an address that signs another device in, as a line and as a QR code for its camera.

use clap::Args;
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use reqwest::Method;
use serde_json::{Value, json};

use crate::ask::Relay;
use crate::failure::Failure;
use crate::print::{self, line, out, remark};

#[derive(Debug, Args)]
pub(crate) struct PairArgs {
    #[command(flatten)]
    relay: Relay,
    /// Print {"code", "link", "expires"} and no picture.
    #[arg(long)]
    json: bool,
}

/// Runs the command to its end.
pub(crate) async fn run(arguments: PairArgs) -> Result<(), Failure> {
    let made: Value = arguments.relay.ask()?.send(Method::POST, "/codes", &json!({})).await?;
    let link = made["link"].as_str().unwrap_or_default();
    if reaches_only_here(link) {
        remark("only this machine reaches that address: for another, set public_url under [relay] in skein.toml");
    }
    if arguments.json {
        return print::json(&made);
    }
    line(link)?;
    out(&picture(link)?)
}

/// Whether an address leads back to the machine that opens it.
fn reaches_only_here(link: &str) -> bool {
    let host = link.split_once("://").map_or(link, |(_, rest)| rest);
    ["127.", "localhost", "[::1]"].iter().any(|local| host.starts_with(local))
}

/// Light modules are drawn, so that it can be read where a terminal is dark and, by today's cameras, where it is light.
fn picture(link: &str) -> Result<String, Failure> {
    let code = QrCode::with_error_correction_level(link, EcLevel::L);
    let code = code.map_err(|error| Failure::new(format!("the address fits into no QR code: {error}")))?;
    let drawn = code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    Ok(format!("{drawn}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_is_square_with_its_margin() {
        let link = "https://skein.example.org/#/sign-in?code=AAAAAAAAAAAAAAAAAAAAAA";
        let text = picture(link).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let width = lines[0].chars().count();
        assert!(lines.iter().all(|line| line.chars().count() == width));
        assert_eq!(lines.len(), width.div_ceil(2));
        // Four light modules around: two lines of two.
        assert!(lines[0].chars().all(|cell| cell == '█') && lines[1].chars().all(|cell| cell == '█'), "{text}");
    }

    #[test]
    fn an_address_of_this_machine_alone_is_told_from_others() {
        for link in ["http://127.0.0.1:7700/#/x", "http://localhost/#/x", "http://[::1]:1/#/x"] {
            assert!(reaches_only_here(link));
        }
        assert!(!reaches_only_here("https://skein.example.org/#/x") && !reaches_only_here("http://192.168.1.5/"));
    }
}
