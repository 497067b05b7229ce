//! The table of settings: the one place where a setting is named, explained and bounded.

use crate::config::values::{
    address, boolean, duration_ms, flow, http_url, key, log_level, networks, nodes, number, one_of,
    path, rate, ratio_percent, size_bytes,
};
use crate::config::{Config, LogFormat, SealMode, SecretText, ValueFault};
use crate::limits::{
    ATTEMPTS_MAX, BACKOFF_MS_MAX, BACKOFF_MS_MIN, CONCENTRATION_VALUE_MAX, HEAL_EVERY_MS_RANGE,
    HOOK_DEADLINE_MS_RANGE, IDEMPOTENCY_RETENTION_MS_MAX, IDEMPOTENCY_RETENTION_MS_MIN,
    NODE_DEADLINE_MS_RANGE, SEAL_DEADLINE_MS_MAX, SEAL_DEADLINE_MS_MIN, SEGMENT_BYTES_MAX,
    SEGMENT_BYTES_MIN,
};

/// One thing that may be set.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its key in the file, words joined by `_`. Flag and variable are made from it.
    pub key: &'static str,
    /// How its value is written.
    pub form: Form,
    /// Whether its value may be shown.
    pub secrecy: Secrecy,
    /// The value when nobody sets it; `None`: unset.
    pub default: Option<&'static str>,
    /// What holds while it is unset, if that is a value by circumstances.
    pub otherwise: Option<&'static str>,
    /// What it does, for `--help`.
    pub help: &'static str,
    assign: fn(&mut Config, &str) -> Result<(), ValueFault>,
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `true` or `false`; the bare flag means `true`.
    Switch,
    /// A whole number.
    Number,
    /// Text, with this placeholder in `--help`.
    Text(&'static str),
    /// Texts with commas between them, with this placeholder; in the file also an array.
    List(&'static str),
}

/// Whether a value may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    /// Everywhere.
    Plain,
    /// Nowhere: masked in `sillage config`, left out of errors.
    Secret,
}

impl Setting {
    /// The flag, such as `--max-attempts`.
    #[must_use]
    pub fn flag(&self) -> String {
        format!("--{}", self.key.replace('_', "-"))
    }

    /// The environment variable, such as `SILLAGE_MAX_ATTEMPTS`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("SILLAGE_{}", self.key.to_ascii_uppercase())
    }

    /// Parses `text` and puts it in its place in `config`.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub(super) fn assign(&self, config: &mut Config, text: &str) -> Result<(), ValueFault> {
        (self.assign)(config, text)
    }
}

/// The setting with this key.
#[must_use]
pub fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// A setting without a default that is no secret; the entries of the table change the rest.
const BLANK: Setting = Setting {
    key: "",
    form: Form::Switch,
    secrecy: Secrecy::Plain,
    default: None,
    otherwise: None,
    help: "",
    assign: |_, _| Ok(()),
};

/// Every setting, in the order in which `--help` and `sillage config` list them.
pub static SETTINGS: [Setting; 31] = [
    Setting {
        key: "data",
        form: Form::Text("DIR"),
        default: Some("./sillage-data"),
        help: "The directory of the store; made if it does not exist",
        assign: |config, text| path(text).map(|value| config.data = value),
        ..BLANK
    },
    Setting {
        key: "listen",
        form: Form::Text("ADDR"),
        default: Some("127.0.0.1:8080"),
        help: "The IP address and port to listen on; port 0 takes a free one, which is printed. \
               Other than loopback addresses need --tokens",
        assign: |config, text| address(text).map(|value| config.listen = value),
        ..BLANK
    },
    Setting {
        key: "ephemeral",
        default: Some("false"),
        help: "Keep the store in a temporary directory, whatever --data says, and remove it at \
               the end. For trials and tests",
        assign: |config, text| boolean(text).map(|value| config.ephemeral = value),
        ..BLANK
    },
    Setting {
        key: "reset",
        default: Some("false"),
        help: "Clear the store at EVERY start, also at a restart after a crash. For development; \
               to clear a store once, use `sillage reset`",
        assign: |config, text| boolean(text).map(|value| config.reset = value),
        ..BLANK
    },
    Setting {
        key: "require_idempotency_key",
        default: Some("false"),
        help: "Refuse to accept formulas without an Idempotency-Key header",
        assign: |config, text| boolean(text).map(|value| config.require_idempotency_key = value),
        ..BLANK
    },
    Setting {
        key: "idempotency_retention",
        form: Form::Text("DURATION"),
        default: Some("24h"),
        help: "How long an idempotency key is remembered, such as 24h, 90s or 500ms",
        assign: |config, text| {
            let (min_ms, max_ms) = (IDEMPOTENCY_RETENTION_MS_MIN, IDEMPOTENCY_RETENTION_MS_MAX);
            let value = duration_ms(text, min_ms, max_ms)?;
            config.idempotency_retention_ms = value;
            Ok(())
        },
        ..BLANK
    },
    Setting {
        key: "max_attempts",
        form: Form::Number,
        default: Some("5"),
        help: "Deliveries of a message that nobody acks, after which it is a dead letter",
        assign: |config, text| {
            number(text, 1, ATTEMPTS_MAX).map(|value| config.attempts_max = value)
        },
        ..BLANK
    },
    Setting {
        key: "max_concentration",
        form: Form::Number,
        default: Some("100"),
        help: "The highest concentration of a material that is accepted, in percent",
        assign: |config, text| {
            number(text, 1, CONCENTRATION_VALUE_MAX).map(|value| config.concentration_max = value)
        },
        ..BLANK
    },
    Setting {
        key: "flow",
        form: Form::List("STEPS"),
        otherwise: Some("none"),
        help: "What follows the acceptance of a formula: seal, to have its id sealed by the \
               authority of --seal-url; release, to have a group of that name on all of --nodes; \
               or both, seal,release",
        assign: |config, text| flow(text).map(|value| config.flow = value),
        ..BLANK
    },
    Setting {
        key: "seal_url",
        form: Form::Text("URL"),
        help: "The authority that seals, such as https://authority.example; needs --seal-key. \
               Without it nothing is sealed",
        assign: |config, text| http_url(text).map(|value| config.seal_url = Some(value)),
        ..BLANK
    },
    Setting {
        key: "seal_key",
        form: Form::Text("KEY"),
        secrecy: Secrecy::Secret,
        help: "What the authority is sent as Authorization. Better set by SILLAGE_SEAL_KEY or in \
               the file than by the flag, which other users of the machine can see",
        assign: |config, text| key(text).map(|value| config.seal_key = Some(SecretText(value))),
        ..BLANK
    },
    Setting {
        key: "seal_rate",
        form: Form::Text("RATE"),
        default: Some("10/min"),
        help: "How often the authority may be called in any window, such as 10/min, 3/s, 1000/h \
               or 10/3s",
        assign: |config, text| rate(text).map(|value| config.seal_rate = value),
        ..BLANK
    },
    Setting {
        key: "seal_mode",
        form: Form::Text("MODE"),
        default: Some("window"),
        help: "How calls are spread over the window: window, each as soon as it may, or paced, \
               evenly",
        assign: |config, text| {
            let modes = &[("window", SealMode::Window), ("paced", SealMode::Paced)];
            one_of(text, modes, &["window", "paced"]).map(|value| config.seal_mode = value)
        },
        ..BLANK
    },
    Setting {
        key: "seal_attempts",
        form: Form::Number,
        default: Some("20"),
        help: "Calls for a seal that fail, after which the message is a dead letter",
        assign: |config, text| {
            number(text, 1, ATTEMPTS_MAX).map(|value| config.seal_attempts_max = value)
        },
        ..BLANK
    },
    Setting {
        key: "seal_public_key",
        form: Form::Text("FILE"),
        help: "The authority's public key, RSA in PEM: with it every signature is verified, and \
               wrong ones count as failed calls",
        assign: |config, text| path(text).map(|value| config.seal_public_key = Some(value)),
        ..BLANK
    },
    Setting {
        key: "seal_deadline",
        form: Form::Text("DURATION"),
        default: Some("10s"),
        help: "How long a call to the authority may take, 50ms to 5m",
        assign: |config, text| {
            duration_ms(text, SEAL_DEADLINE_MS_MIN, SEAL_DEADLINE_MS_MAX)
                .map(|value| config.seal_deadline_ms = value)
        },
        ..BLANK
    },
    Setting {
        key: "backoff_base",
        form: Form::Text("DURATION"),
        default: Some("2s"),
        help: "The wait before a failed call to the outside is tried again; it doubles from \
               attempt to attempt",
        assign: |config, text| {
            duration_ms(text, BACKOFF_MS_MIN, BACKOFF_MS_MAX)
                .map(|value| config.backoff_base_ms = value)
        },
        ..BLANK
    },
    Setting {
        key: "backoff_cap",
        form: Form::Text("DURATION"),
        default: Some("300s"),
        help: "The longest of these waits",
        assign: |config, text| {
            duration_ms(text, BACKOFF_MS_MIN, BACKOFF_MS_MAX)
                .map(|value| config.backoff_cap_ms = value)
        },
        ..BLANK
    },
    Setting {
        key: "nodes",
        form: Form::List("URL,…"),
        help: "The partner nodes that groups are released on, all or none, such as \
               http://a.example:5000,http://b.example:5000; up to 16",
        assign: |config, text| nodes(text).map(|value| config.nodes = value),
        ..BLANK
    },
    Setting {
        key: "node_deadline",
        form: Form::Text("DURATION"),
        default: Some("5s"),
        help: "How long a call to a node may take, 50ms to 60s. What became of a call that took \
               longer is judged only after that time",
        assign: |config, text| {
            let (min_ms, max_ms) = NODE_DEADLINE_MS_RANGE.into_inner();
            duration_ms(text, min_ms, max_ms).map(|value| config.node_deadline_ms = value)
        },
        ..BLANK
    },
    Setting {
        key: "heal_every",
        form: Form::Text("DURATION"),
        default: Some("30s"),
        help: "How often it is tried to undo a transaction that failed, 100ms to 1d",
        assign: |config, text| {
            let (min_ms, max_ms) = HEAL_EVERY_MS_RANGE.into_inner();
            duration_ms(text, min_ms, max_ms).map(|value| config.heal_every_ms = value)
        },
        ..BLANK
    },
    Setting {
        key: "webhook_secret",
        form: Form::Text("SECRET"),
        secrecy: Secrecy::Secret,
        help: "What answers to single requests for a seal are signed with, whsec_ and base64; \
               without it the server makes one when it first needs it",
        assign: |config, text| {
            key(text).map(|value| config.webhook_secret = Some(SecretText(value)))
        },
        ..BLANK
    },
    Setting {
        key: "webhook_allow",
        form: Form::List("CIDR,…"),
        help: "Networks that hooks may be in beside public ones, such as 127.0.0.0/8,10.1.0.0/16",
        assign: |config, text| networks(text).map(|value| config.webhook_allow = value),
        ..BLANK
    },
    Setting {
        key: "webhook_attempts",
        form: Form::Number,
        default: Some("20"),
        help: "Calls to a hook that fail, after which the delivery is a dead letter",
        assign: |config, text| {
            number(text, 1, ATTEMPTS_MAX).map(|value| config.webhook_attempts_max = value)
        },
        ..BLANK
    },
    Setting {
        key: "webhook_deadline",
        form: Form::Text("DURATION"),
        default: Some("10s"),
        help: "How long a call to a hook may take, 100ms to 60s",
        assign: |config, text| {
            let (min_ms, max_ms) = HOOK_DEADLINE_MS_RANGE.into_inner();
            duration_ms(text, min_ms, max_ms).map(|value| config.webhook_deadline_ms = value)
        },
        ..BLANK
    },
    Setting {
        key: "serve_groups",
        default: Some("false"),
        help: "Play a partner node: keep groups for other servers, under /v1/group/",
        assign: |config, text| boolean(text).map(|value| config.serve_groups = value),
        ..BLANK
    },
    Setting {
        key: "tokens",
        form: Form::Text("FILE"),
        help: "The file of bearer tokens: lines of `name sha256-in-hex scope,scope`; without \
               it everybody on this machine may do everything",
        assign: |config, text| path(text).map(|value| config.tokens = Some(value)),
        ..BLANK
    },
    Setting {
        key: "log_format",
        form: Form::Text("FORMAT"),
        otherwise: Some("pretty on a terminal, json otherwise"),
        help: "How events are written to stderr: pretty or json",
        assign: |config, text| {
            let formats = &[("pretty", LogFormat::Pretty), ("json", LogFormat::Json)];
            let value = one_of(text, formats, &["pretty", "json"])?;
            config.log_format = Some(value);
            Ok(())
        },
        ..BLANK
    },
    Setting {
        key: "log_level",
        form: Form::Text("LEVEL"),
        default: Some("info"),
        help: "The least important events that are written: error, warn, info, debug or trace",
        assign: |config, text| log_level(text).map(|value| config.log_level = value),
        ..BLANK
    },
    Setting {
        key: "segment_size",
        form: Form::Text("SIZE"),
        default: Some("64MiB"),
        help: "The size of one file of the log, 64KiB to 4GiB",
        assign: |config, text| {
            size_bytes(text, SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)
                .map(|value| config.segment_bytes = value)
        },
        ..BLANK
    },
    Setting {
        key: "snapshot_ratio",
        form: Form::Text("RATIO"),
        default: Some("1.0"),
        help: "A new snapshot is written when the log has grown to so many times the size of the \
               last one, 0.1 to 100. Less: a faster start and less memory; more: less to write",
        assign: |config, text| {
            ratio_percent(text).map(|value| config.snapshot_ratio_percent = value)
        },
        ..BLANK
    },
];
