//! What the refusal of a configuration says: one line that names the origin, the value and what
//! would be taken instead.

use std::error::Error;
use std::fmt;

use crate::config::units::{show_duration, show_size};
use crate::config::{Invalid, Origin, SETTINGS, Setting, ValueFault, find};
use crate::limits::{CALL_WINDOW_MS_MAX, CALLS_KEPT_MAX, CONFIG_BYTES_MAX};

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Invalid::Value { setting, origin, text, fault } => {
                f.write_str(&origin.describe(setting))?;
                if matches!(origin, Origin::File { .. }) {
                    write!(f, ": {}", setting.key)?;
                }
                if text.is_empty() {
                    write!(f, ": {fault}")
                } else {
                    write!(f, ": `{text}` {fault}")
                }
            }
            Invalid::UnknownKey { path, line, key, similar } => {
                write!(f, "{}:{line}: unknown key `{key}`", path.display())?;
                write_hint(f, *similar)
            }
            Invalid::Syntax { path, line, detail } => {
                write!(f, "{}:{line}: {detail}", path.display())
            }
            Invalid::Unreadable { path, error } => {
                write!(f, "cannot read the configuration {}: {error}", path.display())
            }
            Invalid::TooLong { path } => {
                write!(f, "{}: longer than {CONFIG_BYTES_MAX} bytes", path.display())
            }
            Invalid::Needs { setting, origin, needed } => {
                write!(f, "{}: cannot be set without --{needed}", origin.describe(setting))
            }
            Invalid::BackoffReversed { origin } => {
                let setting = find("backoff_base").expect("backoff_base is a setting");
                write!(f, "{}: is more than --backoff-cap", origin.describe(setting))
            }
            Invalid::OpenToOthers { listen, origin } => {
                let setting = find("listen").expect("listen is a setting");
                write!(
                    f,
                    "{}: {listen} can be reached from other machines, but no tokens are set: \
                     name a file of tokens with --tokens FILE, or listen on 127.0.0.1:{}",
                    origin.describe(setting),
                    listen.port()
                )
            }
        }
    }
}

impl Error for Invalid {}

fn write_hint(f: &mut fmt::Formatter<'_>, similar: Option<&str>) -> fmt::Result {
    if let Some(similar) = similar {
        return write!(f, ", did you mean `{similar}`?");
    }
    let keys: Vec<&str> = SETTINGS.iter().map(|setting: &Setting| setting.key).collect();
    write!(f, "; the keys are {}", keys.join(", "))
}

impl fmt::Display for ValueFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ValueFault::NotNumber { min, max } => {
                write!(f, "is not a whole number from {min} to {max}")
            }
            ValueFault::NotDuration => {
                f.write_str("is not a duration such as 24h, 15m, 90s or 500ms")
            }
            ValueFault::DurationOutside { min_ms, max_ms } => {
                write!(f, "is not from {} to {}", show_duration(min_ms), show_duration(max_ms))
            }
            ValueFault::NotSize => f.write_str("is not a size such as 64MiB, 512KiB or 1GiB"),
            ValueFault::SizeOutside { min_bytes, max_bytes } => {
                write!(f, "is not from {} to {}", show_size(min_bytes), show_size(max_bytes))
            }
            ValueFault::NotRatio => {
                f.write_str("is not a ratio from 0.1 to 100 with at most two decimals")
            }
            ValueFault::NotAddress => {
                f.write_str("is not an IP address with a port such as 127.0.0.1:8080 or [::1]:8080")
            }
            ValueFault::NotNetworks => {
                f.write_str("is not a list of networks such as 10.1.0.0/16,fd00::/8")
            }
            ValueFault::NotRate => write!(
                f,
                "is not a rate such as 10/min, 3/s or 10/3s, of 1 to {CALLS_KEPT_MAX} calls in at \
                 most {}",
                show_duration(CALL_WINDOW_MS_MAX)
            ),
            ValueFault::NotUrl => {
                f.write_str("is not an address such as https://authority.example without a query")
            }
            ValueFault::NotKey => f.write_str("is not a key of visible ASCII characters"),
            ValueFault::NotBoolean => f.write_str("is neither true nor false"),
            ValueFault::NotOneOf(words) => write!(f, "is not one of {}", words.join(", ")),
            ValueFault::Empty => f.write_str("is empty"),
            ValueFault::NotUtf8 => f.write_str("is not UTF-8"),
            ValueFault::NotPlain => f.write_str("is not a string, a decimal number or a boolean"),
        }
    }
}
