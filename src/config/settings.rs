//! The table of settings: the one place where a setting is named, explained and parsed.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;

use crate::config::units::{Rate, parse_duration_ms, parse_rate, parse_size_bytes};
use crate::config::{Config, Flow, LogFormat, LogLevel, SealMode, SecretText, ValueFault};
use crate::limits::{
    ATTEMPTS_MAX, BACKOFF_MS_MAX, BACKOFF_MS_MIN, CALL_WINDOW_MS_MAX, CALLS_KEPT_MAX,
    CONCENTRATION_VALUE_MAX, HOOK_DEADLINE_MS_RANGE, IDEMPOTENCY_RETENTION_MS_MAX,
    IDEMPOTENCY_RETENTION_MS_MIN, SEAL_DEADLINE_MS_MAX, SEAL_DEADLINE_MS_MIN, SEGMENT_BYTES_MAX,
    SEGMENT_BYTES_MIN, SNAPSHOT_RATIO_PERCENTS,
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
pub static SETTINGS: [Setting; 27] = [
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
               authority of --seal-url",
        assign: |config, text| {
            let flows = &[("seal", Flow::Seal), ("none", Flow::None)];
            one_of(text, flows, &["seal", "none"]).map(|value| config.flow = value)
        },
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

fn path(text: &str) -> Result<PathBuf, ValueFault> {
    if text.is_empty() { Err(ValueFault::Empty) } else { Ok(PathBuf::from(text)) }
}

fn address(text: &str) -> Result<SocketAddr, ValueFault> {
    text.parse().map_err(|_| ValueFault::NotAddress)
}

fn boolean(text: &str) -> Result<bool, ValueFault> {
    text.parse().map_err(|_| ValueFault::NotBoolean)
}

fn number(text: &str, min: u32, max: u32) -> Result<u32, ValueFault> {
    let digits_only = text.bytes().all(|byte| byte.is_ascii_digit());
    let value = text.parse().ok().filter(|value| digits_only && (min..=max).contains(value));
    value.ok_or(ValueFault::NotNumber { min, max })
}

fn duration_ms(text: &str, min_ms: u64, max_ms: u64) -> Result<u64, ValueFault> {
    let value = parse_duration_ms(text).ok_or(ValueFault::NotDuration)?;
    let inside = (min_ms..=max_ms).contains(&value);
    if inside { Ok(value) } else { Err(ValueFault::DurationOutside { min_ms, max_ms }) }
}

fn size_bytes(text: &str, min_bytes: u64, max_bytes: u64) -> Result<u64, ValueFault> {
    let value = parse_size_bytes(text).ok_or(ValueFault::NotSize)?;
    let inside = (min_bytes..=max_bytes).contains(&value);
    if inside { Ok(value) } else { Err(ValueFault::SizeOutside { min_bytes, max_bytes }) }
}

/// An HTTP address without a query, as calls are made below it.
fn http_url(text: &str) -> Result<String, ValueFault> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let is_plain = |rest: &str| {
        let is_host = rest.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '[');
        is_host && rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#@\\".contains(&byte))
    };
    rest.filter(|rest| is_plain(rest)).map(|_| text.to_owned()).ok_or(ValueFault::NotUrl)
}

/// Networks, separated by commas.
fn networks(text: &str) -> Result<Vec<IpNet>, ValueFault> {
    let network = |part: &str| {
        let part = part.trim();
        part.parse().or_else(|_| part.parse::<IpAddr>().map(IpNet::from))
    };
    let networks: Result<Vec<IpNet>, _> = text.split(',').map(network).collect();
    networks.map_err(|_| ValueFault::NotNetworks)
}

/// Visible ASCII with blanks within, such as `Bearer …`.
fn key(text: &str) -> Result<String, ValueFault> {
    let is_key = !text.is_empty()
        && text.trim() == text
        && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if is_key { Ok(text.to_owned()) } else { Err(ValueFault::NotKey) }
}

fn rate(text: &str) -> Result<Rate, ValueFault> {
    let is_within =
        |rate: &Rate| rate.calls as usize <= CALLS_KEPT_MAX && rate.window_ms <= CALL_WINDOW_MS_MAX;
    parse_rate(text).filter(is_within).ok_or(ValueFault::NotRate)
}

/// A ratio such as `1.5`, in percent: two decimals are enough, and percents compare exactly.
fn ratio_percent(text: &str) -> Result<u32, ValueFault> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let is_plain = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let parse = || {
        let percent: u32 = format!("{decimals:0<2}").parse().ok()?;
        whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(percent)
    };
    let is_ratio = is_plain(whole) && is_plain(decimals) && decimals.len() <= 2;
    let value = if is_ratio { parse() } else { None };
    let inside = |percent: &u32| SNAPSHOT_RATIO_PERCENTS.contains(percent);
    value.filter(inside).ok_or(ValueFault::NotRatio)
}

fn log_level(text: &str) -> Result<LogLevel, ValueFault> {
    let levels = &[
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
    one_of(text, levels, &["error", "warn", "info", "debug", "trace"])
}

/// The choice called `text`, whatever its case: `LOG_LEVEL=INFO` is common usage.
fn one_of<T: Copy>(
    text: &str,
    choices: &[(&str, T)],
    words: &'static [&'static str],
) -> Result<T, ValueFault> {
    let called = |choice: &&(&str, T)| choice.0.eq_ignore_ascii_case(text);
    choices.iter().find(called).map(|choice| choice.1).ok_or(ValueFault::NotOneOf(words))
}
