//! `[[integration]]` of `skein.toml`: an MCP server, its secrets by the names of environment variables, and the floor of
//! what its tools may do without asking.

use std::collections::BTreeMap;

use serde::Deserialize;
use skein_engine::workspace::integration::Policy;

/// One `[[integration]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Integration {
    /// What documents know it by: 1 to 64 characters of `a-zA-Z0-9_.-`.
    pub name: String,
    /// A program and its arguments, which speaks MCP on its standard input and output.
    #[serde(default)]
    pub command: Vec<String>,
    /// Or an address that speaks MCP over streamable HTTP. The operator's own word: it may be a private one.
    #[serde(default)]
    pub url: Option<String>,
    /// Headers, by the environment variable that holds each.
    #[serde(default)]
    pub headers_env: BTreeMap<String, String>,
    /// Environment variables that the program gets beside `PATH`, `HOME` and `LANG`.
    #[serde(default)]
    pub env: Vec<String>,
    /// The floor by tool, `*` for all others; `ask` where nothing is said.
    #[serde(default)]
    pub tools: BTreeMap<String, Policy>,
}

impl Integration {
    /// Why it can't be, if it can't: the key, and what is wrong.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(fits) {
            return Err(("name", "an integration's name has 1 to 64 characters of a-z, A-Z, 0-9, _, . and -".into()));
        }
        match (&self.url, self.command.first()) {
            (None, None) => Err(("command", "an integration needs a command or a url".into())),
            (Some(_), Some(_)) => Err(("url", "an integration has a command or a url, not both".into())),
            (None, Some(program)) if program.trim().is_empty() => Err(("command", "its program is empty".into())),
            (None, Some(_)) if !self.headers_env.is_empty() => {
                Err(("headers_env", "headers are for an integration with a url".into()))
            }
            (Some(url), None) if !url.starts_with("http://") && !url.starts_with("https://") => {
                Err(("url", format!("\"{url}\" is no http:// or https:// address")))
            }
            (Some(_), None) if !self.env.is_empty() => Err(("env", "env is for an integration with a command".into())),
            _ => Ok(()),
        }
    }

    /// The floor of a tool.
    pub fn policy_of(&self, tool: &str) -> Policy {
        self.tools.get(tool).or_else(|| self.tools.get("*")).copied().unwrap_or(Policy::Ask)
    }
}
