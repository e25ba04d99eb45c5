//! The worker's part of `skein.toml`: which models, at what price, with which tools. Secrets are named there by the
//! environment variable that holds them, never written; other parts of the file belong to others and are passed over.
//!
//! File, then environment, then flags: whoever calls applies them in that order, and [`Settings::check`] last.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::SystemTime;

use jiff::tz::TimeZone;
use serde::Deserialize;
use skein_engine::ids::Timestamp;
use skein_engine::price::Rates;

use crate::integrations::config::Integration;
use crate::prices::{Price, Published, published};
use crate::providers::limits::Allowed;
use crate::providers::transport::Endpoint;
use crate::providers::{Kind, demo};
use crate::tools::core;

/// Everything that a worker reads of `skein.toml`. The default talks to the demo model.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// `[worker]`.
    pub worker: Worker,
    /// `[[provider]]`.
    pub provider: Vec<Provider>,
    /// `[[price]]`.
    pub price: Vec<Price>,
    /// `[tools]`.
    pub tools: Tools,
    /// `[relay]` is the relay's.
    relay: Option<toml::Value>,
    /// `[[integration]]`.
    pub integration: Vec<Integration>,
}

/// `[worker]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Worker {
    /// `PROVIDER/MODEL`: what an agent without a model of its own uses.
    pub model: String,
    /// Tokens per second of the demo model.
    pub demo_speed: f64,
    /// How many answers of a model one run may take.
    pub step_limit: u32,
    /// Where each session has a folder for its tools; `None`: `$XDG_STATE_HOME/skein/work`.
    pub folder: Option<PathBuf>,
    /// Whose midnight begins a day of the workspace's limit, as in `Europe/Berlin`; `None`: the system's.
    pub time_zone: Option<String>,
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            model: format!("{}/{}", demo::PROVIDER, demo::MODEL),
            demo_speed: demo::SPEED,
            step_limit: 20,
            folder: None,
            time_zone: None,
        }
    }
}

impl Worker {
    /// Where each session has a folder for its tools.
    pub fn folder(&self) -> PathBuf {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let state = || variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")));
        let own = || state().map_or_else(|| PathBuf::from("work"), |state| state.join("skein/work"));
        let folder = self.folder.clone().unwrap_or_else(own);
        std::path::absolute(&folder).unwrap_or(folder)
    }

    /// The name of its time zone. A system whose zone has no name is taken to be at UTC.
    pub fn zone(&self) -> String {
        let system = || TimeZone::system().iana_name().map(str::to_owned);
        self.time_zone.clone().or_else(system).unwrap_or_else(|| "UTC".to_owned())
    }
}

/// One `[[provider]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// What models are named with.
    pub name: String,
    /// What it speaks.
    pub kind: Kind,
    /// With its version; a missing last slash is added. The maker's own if left out.
    #[serde(default)]
    pub base_url: Option<String>,
    /// The environment variable that holds the key.
    #[serde(default)]
    pub api_key_env: Option<String>,
    /// The most tokens that an answer may have, where the provider must be told.
    #[serde(default)]
    pub max_tokens: Option<u64>,
    /// Models that the worker offers beside its default, without the provider's name.
    #[serde(default)]
    pub models: Vec<String>,
    /// Requests under way at once, over all sessions; any number if left out.
    #[serde(default)]
    pub max_concurrent: Option<u32>,
    /// Requests that begin within 60 s, over all sessions; any number if left out.
    #[serde(default)]
    pub requests_per_minute: Option<u32>,
}

/// `[tools]`: core tools that write or execute are off unless listed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tools {
    /// Names of tools.
    pub enabled: Vec<String>,
    /// Workspaces in which those may be used, by name or id; `*`: all.
    pub workspaces: Vec<String>,
    /// Hosts that are fetched from without asking.
    pub fetch_hosts: Vec<String>,
    /// Whether addresses of the private network may be reached.
    pub private_addresses: bool,
}

impl Tools {
    fn check(&self) -> Result<(), ConfigError> {
        let known = || core::ALWAYS.into_iter().chain(core::LISTED);
        if let Some(tool) = self.enabled.iter().find(|tool| known().all(|name| name != *tool)) {
            let nearest = known().min_by_key(|name| strsim::damerau_levenshtein(tool, name)).unwrap_or_default();
            let why = format!("there is no tool named \"{tool}\"; the nearest is \"{nearest}\"");
            return Err(wrong("tools.enabled", why));
        }
        for host in &self.fetch_hosts {
            let bare = reqwest::Url::parse(&format!("http://{host}/"))
                .is_ok_and(|url| url.host_str() == Some(host.as_str()) && url.path() == "/");
            if !bare {
                let why = format!("\"{host}\" is no host: write it as in \"docs.example.org\", in small letters");
                return Err(wrong("tools.fetch_hosts", why));
            }
        }
        Ok(())
    }
}

/// Why settings can't be used: one sentence, the key first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No TOML, an unknown key, a wrong type.
    #[error("skein.toml: {0}")]
    Syntax(String),
    /// A value that can't be.
    #[error("{key}: {why}")]
    Value {
        /// Where.
        key: String,
        /// What is wrong.
        why: String,
    },
}

fn wrong(key: impl Into<String>, why: impl Into<String>) -> ConfigError {
    ConfigError::Value { key: key.into(), why: why.into() }
}

impl Settings {
    /// Reads the text of a `skein.toml`.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        // The error of the library shows the line; its last line says what was expected.
        toml::from_str(text).map_err(|error| ConfigError::Syntax(error.to_string().trim().replace('\n', " ")))
    }

    /// Lets the environment win: `SKEIN_MODEL`, `SKEIN_DEMO_SPEED`.
    pub fn apply_environment(&mut self, variable: impl Fn(&str) -> Option<String>) -> Result<(), ConfigError> {
        if let Some(model) = variable("SKEIN_MODEL").filter(|model| !model.is_empty()) {
            self.worker.model = model;
        }
        if let Some(speed) = variable("SKEIN_DEMO_SPEED").filter(|speed| !speed.is_empty()) {
            self.worker.demo_speed =
                speed.parse().map_err(|_| wrong("SKEIN_DEMO_SPEED", format!("\"{speed}\" is not a number")))?;
        }
        Ok(())
    }

    /// Whether every name is known and every number makes sense.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut names = BTreeMap::new();
        for (index, provider) in self.provider.iter().enumerate() {
            let key = |field: &str| format!("provider[{index}].{field}");
            if provider.name.is_empty() || provider.name.contains('/') {
                return Err(wrong(key("name"), "a provider's name is not empty and has no slash"));
            }
            if names.insert(&provider.name, index).is_some() {
                return Err(wrong(key("name"), format!("there are two providers named \"{}\"", provider.name)));
            }
            let url = provider.url();
            if provider.kind != Kind::Demo && !url.starts_with("http://") && !url.starts_with("https://") {
                return Err(wrong(key("base_url"), format!("\"{url}\" is no http:// or https:// address")));
            }
            for (field, limit) in
                [("max_concurrent", provider.max_concurrent), ("requests_per_minute", provider.requests_per_minute)]
            {
                if limit == Some(0) {
                    return Err(wrong(key(field), "at least 1; leave it out for no limit"));
                }
            }
        }
        self.resolve(&self.worker.model).map_err(|why| wrong("worker.model", why))?;
        if !self.worker.demo_speed.is_finite() || self.worker.demo_speed <= 0.0 {
            return Err(wrong("worker.demo_speed", "tokens per second must be more than 0"));
        }
        if self.worker.step_limit == 0 {
            return Err(wrong("worker.step_limit", "at least one step"));
        }
        if let Some(zone) = self.worker.time_zone.as_ref().filter(|zone| TimeZone::get(zone).is_err()) {
            let why = format!("there is no time zone \"{zone}\": give a name such as Europe/Berlin");
            return Err(wrong("worker.time_zone", why));
        }
        let mut integrations = BTreeSet::new();
        for (index, integration) in self.integration.iter().enumerate() {
            let key = |field: &str| format!("integration[{index}].{field}");
            integration.check().map_err(|(field, why)| wrong(key(field), why))?;
            if !integrations.insert(&integration.name) {
                return Err(wrong(key("name"), format!("there are two integrations named \"{}\"", integration.name)));
            }
        }
        for (index, price) in self.price.iter().enumerate() {
            price.rates.check().map_err(|why| wrong(format!("price[{index}]"), why))?;
        }
        self.tools.check()
    }

    /// The endpoint and model that `PROVIDER/MODEL` names, at today's price, or why there is none.
    pub fn resolve(&self, model: &str) -> Result<Model, String> {
        let (provider, name) = model
            .split_once('/')
            .filter(|(provider, name)| !provider.is_empty() && !name.is_empty())
            .ok_or_else(|| format!("\"{model}\" is no model: write PROVIDER/MODEL"))?;
        let configured = self.provider.iter().find(|one| one.name == provider);
        let endpoint = match configured {
            Some(one) => Endpoint {
                name: one.name.clone(),
                kind: one.kind,
                base_url: one.url(),
                key: None,
                demo_speed: self.worker.demo_speed,
                allowed: Allowed { concurrent: one.max_concurrent, per_minute: one.requests_per_minute },
            },
            None if provider == demo::PROVIDER => Endpoint {
                name: demo::PROVIDER.into(),
                kind: Kind::Demo,
                base_url: String::new(),
                key: None,
                demo_speed: self.worker.demo_speed,
                allowed: Allowed::default(),
            },
            None => return Err(format!("no [[provider]] is named \"{provider}\", which \"{model}\" needs")),
        };
        let Published { rates, context_window } = self.published(&endpoint, name);
        Ok(Model {
            endpoint,
            name: name.to_owned(),
            key_variable: configured.and_then(|one| one.api_key_env.clone()),
            max_tokens: configured.and_then(|one| one.max_tokens),
            rates,
            context_window,
        })
    }

    /// `PROVIDER/MODEL` of everything that this worker is known to serve, the default first.
    pub fn models(&self) -> Vec<String> {
        let mut models = vec![self.worker.model.clone()];
        let listed =
            self.provider.iter().flat_map(|one| one.models.iter().map(|model| format!("{}/{model}", one.name)));
        listed.for_each(|model| {
            if !models.contains(&model) {
                models.push(model);
            }
        });
        models
    }

    /// Whether this worker can serve `PROVIDER/MODEL`; `None`: its own default.
    pub fn serves(&self, model: Option<&str>) -> bool {
        model.is_none_or(|model| self.resolve(model).is_ok())
    }

    /// Whether `PROVIDER/MODEL` is the built-in demo.
    pub fn is_demo(&self, model: &str) -> bool {
        self.resolve(model).is_ok_and(|model| model.endpoint.kind == Kind::Demo)
    }

    /// What is known of a model: the operator's price, else the published one.
    fn published(&self, endpoint: &Endpoint, model: &str) -> Published {
        let full = format!("{}/{model}", endpoint.name);
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let at = Timestamp(u64::try_from(at.as_millis()).unwrap_or(u64::MAX));
        let known = match endpoint.kind {
            Kind::Demo => Published { rates: Some(Rates::pretend()), context_window: None },
            _ => published(&endpoint.base_url, model, at),
        };
        let own = self.price.iter().find(|price| price.model == full).map(|price| price.rates);
        Published { rates: own.or(known.rates), ..known }
    }
}

impl Provider {
    fn url(&self) -> String {
        let default = match self.kind {
            Kind::OpenAi => "https://api.openai.com/v1/",
            Kind::Responses => "https://api.openai.com/v1/",
            Kind::Anthropic => "https://api.anthropic.com/v1/",
            Kind::Gemini => "https://generativelanguage.googleapis.com/v1beta/",
            Kind::Ollama => "http://127.0.0.1:11434/api/",
            Kind::Demo => "",
        };
        let mut url = self.base_url.clone().unwrap_or_else(|| default.to_owned());
        if !url.is_empty() && !url.ends_with('/') {
            url.push('/');
        }
        url
    }
}

/// A model, ready to be asked.
#[derive(Clone, Debug)]
pub struct Model {
    /// Where.
    pub endpoint: Endpoint,
    /// Without the provider's name.
    pub name: String,
    /// The environment variable that holds the key.
    pub key_variable: Option<String>,
    /// See [`Provider::max_tokens`].
    pub max_tokens: Option<u64>,
    /// `None`: unknown.
    pub rates: Option<Rates>,
    /// The most tokens of a request and its answer together; `None`: unknown.
    pub context_window: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"
        [worker]
        model = "local/some-model"
        [[provider]]
        name = "local"
        kind = "openai"
        base_url = "http://127.0.0.1:8077/v1"
        api_key_env = "LOCAL_KEY"
        [[price]]
        model = "local/some-model"
        input = 1.0
        output = 2.0
        cache_read = 0.1
        above = { tokens = 200000, input = 2.0, output = 3.0 }
        [tools]
        workspaces = ["*"]
        [relay]
        public_url = "https://skein.example.org"
    "#;

    #[test]
    fn the_contracts_example_is_read_and_the_missing_slash_added() {
        let settings = Settings::from_toml(FULL).unwrap();
        settings.check().unwrap();
        let model = settings.resolve("local/some-model").unwrap();
        assert_eq!(model.endpoint.base_url, "http://127.0.0.1:8077/v1/");
        assert_eq!(model.key_variable.as_deref(), Some("LOCAL_KEY"));
        assert!(model.rates.is_some());
        assert!(settings.resolve("local/other").unwrap().rates.is_none());
    }

    #[test]
    fn with_nothing_configured_the_demo_answers() {
        let settings = Settings::from_toml("").unwrap();
        settings.check().unwrap();
        assert_eq!(settings.worker.model, "demo/demo");
        assert_eq!(settings.resolve("demo/demo").unwrap().endpoint.kind, Kind::Demo);
    }

    #[test]
    fn a_typo_is_one_sentence_that_names_it() {
        let error = Settings::from_toml("[worker]\nmodle = \"a/b\"").unwrap_err().to_string();
        assert!(error.contains("modle") && !error.contains('\n'), "{error}");
        assert!(Settings::from_toml("[[price]]\nmodel = \"a/b\"\ninput = 1.0\noutput = 1.0\ncached = 1.0").is_err());
        for (text, key) in [
            ("[worker]\nmodel = \"nobody/x\"", "worker.model"),
            ("[worker]\nmodel = \"x\"", "worker.model"),
            ("[worker]\ndemo_speed = 0.0", "worker.demo_speed"),
            ("[worker]\ntime_zone = \"Europe/Brelin\"", "worker.time_zone"),
            ("[[provider]]\nname = \"a\"\nkind = \"openai\"\nbase_url = \"ftp://x\"", "base_url"),
            ("[tools]\nenabled = [\"wirte_file\"]\nworkspaces = [\"*\"]", "the nearest is \"write_file\""),
            ("[tools]\nfetch_hosts = [\"https://example.org\"]", "tools.fetch_hosts"),
            ("[[price]]\nmodel = \"a/b\"\ninput = -1.0\noutput = 1.0", "price[0]"),
        ] {
            let error = Settings::from_toml(text).unwrap().check().unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let mut settings = Settings::from_toml("[worker]\ndemo_speed = 5.0").unwrap();
        settings.apply_environment(|name| (name == "SKEIN_DEMO_SPEED").then(|| "80".to_owned())).unwrap();
        assert_eq!(settings.worker.demo_speed, 80.0);
        assert!(settings.apply_environment(|_| Some("fast".into())).is_err());
    }
}
