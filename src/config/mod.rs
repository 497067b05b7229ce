//! What an operator may set: defaults ← file ← environment ← flags.
//!
//! One table, [`SETTINGS`], names every setting once. From it come the flags of `sillage serve`,
//! the environment variables, the keys of the file and the output of `sillage config`. Each
//! value, wherever it stands, is text that its setting parses; so a bad value is found at the
//! start, in every layer, even in one that another layer overrides.
//!
//! An error names the origin of the value: the flag, the variable, or file, line and key. What
//! is a secret is never repeated, neither in errors nor in `sillage config`.
//!
//! This module knows neither clap nor the process environment: `cli` hands both in.

mod file;
mod invalid;
mod settings;
pub mod units;
mod values;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;

pub use self::invalid::{Invalid, ValueFault};
pub use self::units::Rate;
pub use settings::{Form, SETTINGS, Secrecy, Setting, find};

/// The settings, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The directory of the store. Not used when `ephemeral`.
    pub data: PathBuf,
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Keep the store in a temporary directory that is removed at the end.
    pub ephemeral: bool,
    /// Clear the store before it is opened.
    pub reset: bool,
    /// Refuse a POST of formulas without an idempotency key.
    pub require_idempotency_key: bool,
    /// How long an idempotency key is remembered, in milliseconds.
    pub idempotency_retention_ms: u64,
    /// Attempts after which a message is a dead letter, at least 1.
    pub attempts_max: u32,
    /// The highest concentration that is accepted, in percent, at least 1.
    pub concentration_max: u32,
    /// The file of bearer tokens; `None`: no authentication, loopback only.
    pub tokens: Option<PathBuf>,
    /// How events are written; `None`: by whether stderr is a terminal.
    pub log_format: Option<LogFormat>,
    /// Which events are written.
    pub log_level: LogLevel,
    /// The steps that follow the acceptance of a formula.
    pub flow: Flow,
    /// Where the authority is; `None`: nothing is sealed.
    pub seal_url: Option<String>,
    /// What the authority is shown. Not in debug output.
    pub seal_key: Option<SecretText>,
    /// How often the authority may be called.
    pub seal_rate: Rate,
    /// How calls are spread over the window.
    pub seal_mode: SealMode,
    /// Calls for a text that fail, after which it is a dead letter, at least 1.
    pub seal_attempts_max: u32,
    /// The file of the authority's public key.
    pub seal_public_key: Option<PathBuf>,
    /// A call to the authority takes at most so many milliseconds.
    pub seal_deadline_ms: u64,
    /// Milliseconds before the second attempt of any call to the outside; they double from
    /// attempt to attempt.
    pub backoff_base_ms: u64,
    /// Milliseconds that no wait between two attempts exceeds.
    pub backoff_cap_ms: u64,
    /// Where the nodes are, as written; at most `NODES_MAX`, no two the same, maybe none.
    pub nodes: Vec<String>,
    /// A call to a node takes at most so many milliseconds.
    pub node_deadline_ms: u64,
    /// Milliseconds between two tries to undo a transaction that failed.
    pub heal_every_ms: u64,
    /// What answers to single requests are signed with.
    pub webhook_secret: Option<SecretText>,
    /// Networks that hooks may be in beside public ones.
    pub webhook_allow: Vec<IpNet>,
    /// Calls to a hook that fail, after which the delivery is a dead letter, at least 1.
    pub webhook_attempts_max: u32,
    /// A call to a hook takes at most so many milliseconds.
    pub webhook_deadline_ms: u64,
    /// Play a partner node: keep groups for others.
    pub serve_groups: bool,
    /// Bytes of one segment of the log.
    pub segment_bytes: u64,
    /// Log since the last snapshot, in percent of its bytes, from which a new one is due.
    pub snapshot_ratio_percent: u32,
}

/// The steps that follow the acceptance of a formula.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flow {
    /// None.
    #[default]
    None,
    /// Its id is sealed.
    Seal,
    /// It is released on all nodes.
    Release,
    /// Its id is sealed, then it is released on all nodes.
    SealRelease,
}

impl Flow {
    /// Whether the authority is needed.
    #[must_use]
    pub fn seals(self) -> bool {
        matches!(self, Flow::Seal | Flow::SealRelease)
    }

    /// Whether partner nodes are needed.
    #[must_use]
    pub fn releases(self) -> bool {
        matches!(self, Flow::Release | Flow::SealRelease)
    }
}

/// How calls to the authority are spread over the window of their rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealMode {
    /// As soon as one may.
    Window,
    /// Evenly.
    Paced,
}

/// A text that is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(pub String);

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretText(..)")
    }
}

/// How events are written to stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text for people.
    Pretty,
    /// One JSON object per line for machines.
    Json,
}

/// The least important events that are still written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Only what stops the service.
    Error,
    /// And what an operator should look at.
    Warn,
    /// And what happens to the service as a whole.
    Info,
    /// And every request.
    Debug,
    /// Everything.
    Trace,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line, counted from 1, of the configuration file.
    File {
        /// The file.
        path: Arc<Path>,
        /// The line of the key.
        line: usize,
    },
    /// The setting's environment variable.
    Variable,
    /// The setting's flag.
    Flag,
}

/// The values that the layers offer.
#[derive(Debug)]
pub struct Sources<'a> {
    /// The flags given, as key of the setting and value.
    pub flags: &'a [(&'static str, String)],
    /// The configuration file, if there is one.
    pub file: Option<&'a Path>,
    /// The environment: the value of a variable, if it is set and not empty.
    pub variable: fn(&str) -> Option<std::ffi::OsString>,
}

/// The configuration that holds, with the text and origin of each value.
#[derive(Debug)]
pub struct Effective {
    /// The checked values.
    pub config: Config,
    /// One for each of [`SETTINGS`], in its order.
    pub values: Vec<EffectiveValue>,
}

/// One value of the effective configuration.
#[derive(Clone, Debug)]
pub struct EffectiveValue {
    /// As written at its origin; `None` when the setting is unset.
    pub text: Option<String>,
    /// Where it was written.
    pub origin: Origin,
}

/// Reads all layers and checks them.
///
/// # Errors
/// The first fault found, in the order file, environment, flags, relations between settings.
pub fn load(sources: &Sources<'_>) -> Result<Effective, Invalid> {
    let mut draft = Effective::of_defaults();
    if let Some(path) = sources.file {
        for entry in file::read(path)? {
            let origin = Origin::File { path: Arc::clone(&entry.path), line: entry.line };
            match entry.text {
                Some(text) => draft.set(entry.setting, text, origin)?,
                None => return Err(refuse(entry.setting, origin, "", ValueFault::NotPlain)),
            }
        }
    }
    for setting in &SETTINGS {
        let Some(value) = (sources.variable)(&setting.variable()) else { continue };
        let not_utf8 = |_| refuse(setting, Origin::Variable, "", ValueFault::NotUtf8);
        draft.set(setting, value.into_string().map_err(not_utf8)?, Origin::Variable)?;
    }
    for (key, text) in sources.flags {
        let setting = find(key).expect("flags are made from the table of settings");
        draft.set(setting, text.clone(), Origin::Flag)?;
    }
    draft.check_relations()?;
    Ok(draft)
}

impl Effective {
    /// The value of the setting with this key.
    ///
    /// # Panics
    /// If there is no such setting.
    #[must_use]
    pub fn value(&self, key: &str) -> &EffectiveValue {
        let place = SETTINGS.iter().position(|setting| setting.key == key);
        &self.values[place.expect("key of a setting")]
    }

    fn of_defaults() -> Effective {
        let unset = EffectiveValue { text: None, origin: Origin::Default };
        let mut draft = Effective { config: Config::unset(), values: vec![unset; SETTINGS.len()] };
        for setting in &SETTINGS {
            if let Some(text) = setting.default {
                let set = draft.set(setting, text.to_owned(), Origin::Default);
                set.expect("a test loads the defaults");
            }
        }
        draft
    }

    fn set(
        &mut self,
        setting: &'static Setting,
        text: String,
        origin: Origin,
    ) -> Result<(), Invalid> {
        if let Err(fault) = setting.assign(&mut self.config, &text) {
            return Err(refuse(setting, origin, &text, fault));
        }
        let place = SETTINGS.iter().position(|other| other.key == setting.key);
        self.values[place.expect("setting of the table")] =
            EffectiveValue { text: Some(text), origin };
        Ok(())
    }

    fn check_relations(&self) -> Result<(), Invalid> {
        let listen = self.config.listen;
        if self.config.tokens.is_none() && !listen.ip().to_canonical().is_loopback() {
            let origin = self.value("listen").origin.clone();
            return Err(Invalid::OpenToOthers { listen, origin });
        }
        self.check_seals()?;
        self.check_releases()
    }

    fn check_seals(&self) -> Result<(), Invalid> {
        let Config { flow, seal_url, seal_key, .. } = &self.config;
        if flow.seals() && seal_url.is_none() {
            return Err(self.needs("flow", "seal-url"));
        }
        if seal_url.is_some() && seal_key.is_none() {
            return Err(self.needs("seal_url", "seal-key"));
        }
        if self.config.backoff_base_ms > self.config.backoff_cap_ms {
            let origin = self.value("backoff_base").origin.clone();
            return Err(Invalid::BackoffReversed { origin });
        }
        Ok(())
    }

    fn check_releases(&self) -> Result<(), Invalid> {
        match self.config.flow.releases() && self.config.nodes.is_empty() {
            true => Err(self.needs("flow", "nodes")),
            false => Ok(()),
        }
    }

    fn needs(&self, key: &str, needed: &'static str) -> Invalid {
        let setting = find(key).expect("key of a setting");
        Invalid::Needs { setting, origin: self.value(key).origin.clone(), needed }
    }
}

impl Config {
    /// The state before the defaults are set; every field that has a default is overwritten.
    fn unset() -> Config {
        Config {
            data: PathBuf::new(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            ephemeral: false,
            reset: false,
            require_idempotency_key: false,
            idempotency_retention_ms: 0,
            attempts_max: 0,
            concentration_max: 0,
            tokens: None,
            log_format: None,
            log_level: LogLevel::Info,
            flow: Flow::None,
            seal_url: None,
            seal_key: None,
            seal_rate: Rate { calls: 1, window_ms: 1 },
            seal_mode: SealMode::Window,
            seal_attempts_max: 0,
            seal_public_key: None,
            seal_deadline_ms: 0,
            backoff_base_ms: 0,
            backoff_cap_ms: 0,
            nodes: Vec::new(),
            node_deadline_ms: 0,
            heal_every_ms: 0,
            webhook_secret: None,
            webhook_allow: Vec::new(),
            webhook_attempts_max: 0,
            webhook_deadline_ms: 0,
            serve_groups: false,
            segment_bytes: 0,
            snapshot_ratio_percent: 0,
        }
    }
}

fn refuse(setting: &'static Setting, origin: Origin, text: &str, fault: ValueFault) -> Invalid {
    let text = match setting.secrecy {
        Secrecy::Plain => text.to_owned(),
        Secrecy::Secret => String::new(),
    };
    Invalid::Value { setting, origin, text, fault }
}

impl Origin {
    /// The origin of a value of `setting`, as an operator would look for it.
    #[must_use]
    pub fn describe(&self, setting: &Setting) -> String {
        match self {
            Origin::Default => "default".to_owned(),
            Origin::File { path, line } => format!("{}:{line}", path.display()),
            Origin::Variable => setting.variable(),
            Origin::Flag => setting.flag(),
        }
    }
}
