//! Why a configuration is refused, and what the refusal says: one line that names the origin, the
//! value and what would be taken instead.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::units::{show_duration, show_size};
use crate::config::{Origin, SETTINGS, Setting, find};
use crate::limits::{CALL_WINDOW_MS_MAX, CALLS_KEPT_MAX, CONFIG_BYTES_MAX, NODES_MAX};

/// Why a configuration is refused.
#[derive(Debug)]
pub enum Invalid {
    /// A value is not what its setting takes.
    Value {
        /// The setting.
        setting: &'static Setting,
        /// Where the value stands.
        origin: Origin,
        /// The value; empty if it is a secret or has no text.
        text: String,
        /// What is wrong with it.
        fault: ValueFault,
    },
    /// The file has a key that is no setting.
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The line of the key, from 1.
        line: usize,
        /// The key.
        key: String,
        /// The setting that was probably meant.
        similar: Option<&'static str>,
    },
    /// The file is not TOML.
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// What the parser says.
        detail: String,
    },
    /// The file cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file is longer than `CONFIG_BYTES_MAX`.
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// A setting that means nothing without another.
    Needs {
        /// The setting.
        setting: &'static Setting,
        /// Where it was set.
        origin: Origin,
        /// The flag of the other, without dashes in front.
        needed: &'static str,
    },
    /// The first wait between attempts is longer than the longest.
    BackoffReversed {
        /// Where it was set.
        origin: Origin,
    },
    /// Without tokens, only this machine may reach the service.
    OpenToOthers {
        /// The address to listen on.
        listen: SocketAddr,
        /// Where it was set.
        origin: Origin,
    },
}

/// What is wrong with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueFault {
    /// Not a whole number in this range.
    NotNumber {
        /// The least that is taken.
        min: u32,
        /// The most that is taken.
        max: u32,
    },
    /// Not a duration such as `24h`.
    NotDuration,
    /// A duration out of this range.
    DurationOutside {
        /// The shortest that is taken, in milliseconds.
        min_ms: u64,
        /// The longest that is taken, in milliseconds.
        max_ms: u64,
    },
    /// Not a size such as `64MiB`.
    NotSize,
    /// A size out of this range.
    SizeOutside {
        /// The smallest that is taken, in bytes.
        min_bytes: u64,
        /// The largest that is taken, in bytes.
        max_bytes: u64,
    },
    /// Not a ratio within its range.
    NotRatio,
    /// Not a rate such as `10/min`, or out of its range.
    NotRate,
    /// Not networks.
    NotNetworks,
    /// Not an HTTP address.
    NotUrl,
    /// Not HTTP addresses, or too many.
    NotNodes,
    /// Two addresses of one node.
    NodeTwice,
    /// No steps of a flow.
    NotFlow,
    /// A release in front of the seal.
    ReleaseBeforeSeal,
    /// Not visible ASCII.
    NotKey,
    /// Not an IP address with a port.
    NotAddress,
    /// Neither `true` nor `false`.
    NotBoolean,
    /// None of these words.
    NotOneOf(&'static [&'static str]),
    /// Nothing where something is needed.
    Empty,
    /// Not UTF-8.
    NotUtf8,
    /// In the file: neither a string nor a decimal number nor a boolean.
    NotPlain,
}

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
            ValueFault::NotNodes => write!(
                f,
                "is not a list of 1 to {NODES_MAX} addresses such as \
                 http://a.example:5000,http://b.example:5000 without queries"
            ),
            ValueFault::NodeTwice => f.write_str("names a node twice"),
            ValueFault::NotFlow => {
                f.write_str("is none of these: none; seal; release; seal,release")
            }
            ValueFault::ReleaseBeforeSeal => f.write_str(
                "releases before it seals: partners would have what the authority may yet refuse; \
                 write seal,release",
            ),
            ValueFault::NotKey => f.write_str("is not a key of visible ASCII characters"),
            ValueFault::NotBoolean => f.write_str("is neither true nor false"),
            ValueFault::NotOneOf(words) => write!(f, "is not one of {}", words.join(", ")),
            ValueFault::Empty => f.write_str("is empty"),
            ValueFault::NotUtf8 => f.write_str("is not UTF-8"),
            ValueFault::NotPlain => f.write_str("is not a string, a decimal number or a boolean"),
        }
    }
}
