//! `skein.toml`: one file, read by parts. The relay's part is here, the worker's in `skein_worker`. A mistake in it is one
//! line: the file, the line, what is wrong and the nearest key that is known.
//!
//! File, then environment, then flags: the last wins.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use skein_worker::Settings;

use crate::failure::Failure;

/// Everything that a `skein.toml` says.
#[derive(Debug, Default)]
pub(crate) struct Config {
    pub(crate) relay: RelayTable,
    pub(crate) worker: Settings,
}

/// `[relay]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RelayTable {
    pub(crate) public_url: Option<String>,
    pub(crate) allowed_origins: Vec<String>,
    pub(crate) allowed_hosts: Vec<String>,
    /// Beside the file, unless absolute.
    pub(crate) tls_cert: Option<PathBuf>,
    pub(crate) tls_key: Option<PathBuf>,
}

/// The parts that [`Settings`] passes over; unknown ones are its to refuse.
#[derive(Deserialize)]
struct Others {
    #[serde(default)]
    relay: RelayTable,
}

impl Config {
    /// Reads the file at `given`, else `./skein.toml` if there is one; then lets the environment and `model` win.
    pub(crate) fn read(given: Option<&Path>, model: Option<&str>) -> Result<Self, Failure> {
        let path = given.unwrap_or(Path::new("skein.toml"));
        let mut config = match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).map_err(|fault| fault.in_file(path))?,
            Err(error) if given.is_none() && error.kind() == std::io::ErrorKind::NotFound => Self::default(),
            Err(error) => return Err(Failure::new(format!("{error}: {}", path.display()))),
        };
        let folder = path.parent().unwrap_or(Path::new(""));
        let own = &mut config.worker.worker.folder;
        for file in [&mut config.relay.tls_cert, &mut config.relay.tls_key, own].into_iter().flatten() {
            *file = folder.join(&*file);
        }
        let faulty = |error: skein_worker::config::ConfigError| Failure::new(error.to_string());
        config.worker.apply_environment(|name| std::env::var(name).ok()).map_err(faulty)?;
        if let Some(model) = model {
            config.worker.worker.model = model.to_owned();
        }
        config.worker.check().map_err(|error| Failure::new(format!("{error} ({})", path.display())))?;
        Ok(config)
    }

    fn parse(text: &str) -> Result<Self, Fault> {
        let worker: Settings = toml::from_str(text).map_err(|error| Fault::new(text, &error))?;
        let others: Others = toml::from_str(text).map_err(|error| Fault::new(text, &error))?;
        if others.relay.tls_cert.is_some() != others.relay.tls_key.is_some() {
            let why = "under [relay] stands only one of tls_cert and tls_key: TLS needs both";
            return Err(Fault { line: None, why: why.into() });
        }
        Ok(Self { relay: others.relay, worker })
    }
}

/// What is wrong in a file, and where.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    /// From 1.
    line: Option<usize>,
    why: String,
}

impl Fault {
    fn new(text: &str, error: &toml::de::Error) -> Self {
        let line = error.span().map(|span| text.get(..span.start).unwrap_or_default().matches('\n').count() + 1);
        Self { line, why: explain(error.message()) }
    }

    fn in_file(self, path: &Path) -> Failure {
        let line = self.line.map(|line| format!(":{line}")).unwrap_or_default();
        Failure::new(format!("{}{line}: {}", path.display(), self.why))
    }
}

/// serde's "unknown field `x`, expected one of `y`, `z`" in a person's words, with the nearest key.
fn explain(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    match (message.starts_with("unknown field"), quoted.next()) {
        (true, Some(unknown)) => {
            let known: Vec<&str> = quoted.collect();
            let distance = |key: &&&str| strsim::damerau_levenshtein(unknown, key);
            match known.iter().min_by_key(distance).filter(|key| distance(key) <= unknown.len().div_ceil(2).max(2)) {
                Some(nearest) => format!("unknown key \"{unknown}\"; did you mean \"{nearest}\"?"),
                None => format!("unknown key \"{unknown}\"; known here are {}", known.join(", ")),
            }
        }
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_names_its_line_and_the_nearest_key() {
        let fault = Config::parse("[worker]\nmodle = \"a/b\"\n").unwrap_err();
        assert_eq!(fault, Fault { line: Some(2), why: "unknown key \"modle\"; did you mean \"model\"?".into() });
        let fault = Config::parse("\n[relay]\npublic_ur = \"x\"\n").unwrap_err();
        assert_eq!(fault.why, "unknown key \"public_ur\"; did you mean \"public_url\"?");
        let fault = Config::parse("[workers]\n").unwrap_err();
        assert_eq!(fault.why, "unknown key \"workers\"; did you mean \"worker\"?");
    }

    #[test]
    fn a_key_like_no_other_lists_what_is_known() {
        let fault = Config::parse("[relay]\nzzzzzzzzzzzz = 1\n").unwrap_err();
        assert!(fault.why.starts_with("unknown key \"zzzzzzzzzzzz\"; known here are public_url"), "{}", fault.why);
    }

    #[test]
    fn broken_toml_names_its_line() {
        assert_eq!(Config::parse("[worker]\nmodel = \n").unwrap_err().line, Some(2));
    }

    #[test]
    fn a_certificate_without_its_key_is_said() {
        let fault = Config::parse("[relay]\ntls_cert = \"cert.pem\"\n").unwrap_err();
        assert!(fault.why.contains("TLS needs both"), "{}", fault.why);
    }

    #[test]
    fn the_whole_file_of_the_documentation_is_understood() {
        let text = r#"
            [worker]
            model = "local/some-model"
            [[provider]]
            name = "local"
            kind = "openai"
            base_url = "http://127.0.0.1:8077/v1"
            [[price]]
            model = "local/some-model"
            input = 1.0
            output = 2.0
            [tools]
            enabled = []
            [relay]
            public_url = "https://skein.example.org"
            allowed_hosts = ["skein.local"]
            tls_cert = "cert.pem"
            tls_key = "key.pem"
            [[integration]]
            name = "files"
            command = ["x"]
        "#;
        let config = Config::parse(text).unwrap();
        assert_eq!(config.relay.public_url.as_deref(), Some("https://skein.example.org"));
        assert_eq!(config.worker.worker.model, "local/some-model");
    }
}
