//! What the texts of settings mean, each by the function that its setting names.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use url::Url;

use crate::config::units::{Rate, parse_duration_ms, parse_rate, parse_size_bytes};
use crate::config::{Flow, LogLevel, ValueFault};
use crate::limits::{
    CALL_WINDOW_MS_MAX, CALLS_KEPT_MAX, NODE_URL_BYTES_MAX, NODES_MAX, SNAPSHOT_RATIO_PERCENTS,
};

pub(super) fn path(text: &str) -> Result<PathBuf, ValueFault> {
    if text.is_empty() { Err(ValueFault::Empty) } else { Ok(PathBuf::from(text)) }
}

pub(super) fn address(text: &str) -> Result<SocketAddr, ValueFault> {
    text.parse().map_err(|_| ValueFault::NotAddress)
}

pub(super) fn boolean(text: &str) -> Result<bool, ValueFault> {
    text.parse().map_err(|_| ValueFault::NotBoolean)
}

pub(super) fn number(text: &str, min: u32, max: u32) -> Result<u32, ValueFault> {
    let digits_only = text.bytes().all(|byte| byte.is_ascii_digit());
    let value = text.parse().ok().filter(|value| digits_only && (min..=max).contains(value));
    value.ok_or(ValueFault::NotNumber { min, max })
}

pub(super) fn duration_ms(text: &str, min_ms: u64, max_ms: u64) -> Result<u64, ValueFault> {
    let value = parse_duration_ms(text).ok_or(ValueFault::NotDuration)?;
    let inside = (min_ms..=max_ms).contains(&value);
    if inside { Ok(value) } else { Err(ValueFault::DurationOutside { min_ms, max_ms }) }
}

pub(super) fn size_bytes(text: &str, min_bytes: u64, max_bytes: u64) -> Result<u64, ValueFault> {
    let value = parse_size_bytes(text).ok_or(ValueFault::NotSize)?;
    let inside = (min_bytes..=max_bytes).contains(&value);
    if inside { Ok(value) } else { Err(ValueFault::SizeOutside { min_bytes, max_bytes }) }
}

/// An HTTP address without a query, as calls are made below it.
pub(super) fn http_url(text: &str) -> Result<String, ValueFault> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let is_plain = |rest: &str| {
        let is_host = rest.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '[');
        is_host && rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#@\\".contains(&byte))
    };
    rest.filter(|rest| is_plain(rest)).map(|_| text.to_owned()).ok_or(ValueFault::NotUrl)
}

/// HTTP addresses of nodes, separated by commas, no two of them the same.
pub(super) fn nodes(text: &str) -> Result<Vec<String>, ValueFault> {
    let nodes: Vec<String> = text.split(',').map(|part| part.trim().to_owned()).collect();
    if nodes.len() > NODES_MAX {
        return Err(ValueFault::NotNodes);
    }
    // Two spellings of one node would each be called, and the second find the work of the first.
    let mut known: Vec<String> = Vec::new();
    for node in &nodes {
        let normal = node_url(node).ok_or(ValueFault::NotNodes)?;
        if known.contains(&normal) {
            return Err(ValueFault::NodeTwice);
        }
        known.push(normal);
    }
    Ok(nodes)
}

/// The one form of a node's address, if it is one: calls are made below its path.
fn node_url(text: &str) -> Option<String> {
    let url = Url::parse(&http_url(text).ok()?).ok().filter(|url| url.port() != Some(0))?;
    // The normal form, which is recorded, may be longer than what is written.
    let is_short = |text: &str| text.len() <= NODE_URL_BYTES_MAX;
    let is_fit = is_short(text) && is_short(url.as_str());
    is_fit.then(|| url.as_str().trim_end_matches('/').to_owned())
}

/// The steps of a flow, separated by commas.
pub(super) fn flow(text: &str) -> Result<Flow, ValueFault> {
    let steps: Vec<String> = text.split(',').map(|part| part.trim().to_ascii_lowercase()).collect();
    match steps.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["none"] => Ok(Flow::None),
        ["seal"] => Ok(Flow::Seal),
        ["release"] => Ok(Flow::Release),
        ["seal", "release"] => Ok(Flow::SealRelease),
        ["release", "seal"] => Err(ValueFault::ReleaseBeforeSeal),
        _ => Err(ValueFault::NotFlow),
    }
}

/// Networks, separated by commas.
pub(super) fn networks(text: &str) -> Result<Vec<IpNet>, ValueFault> {
    let network = |part: &str| {
        let part = part.trim();
        part.parse().or_else(|_| part.parse::<IpAddr>().map(IpNet::from))
    };
    let networks: Result<Vec<IpNet>, _> = text.split(',').map(network).collect();
    networks.map_err(|_| ValueFault::NotNetworks)
}

/// Visible ASCII with blanks within, such as `Bearer …`.
pub(super) fn key(text: &str) -> Result<String, ValueFault> {
    let is_key = !text.is_empty()
        && text.trim() == text
        && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if is_key { Ok(text.to_owned()) } else { Err(ValueFault::NotKey) }
}

pub(super) fn rate(text: &str) -> Result<Rate, ValueFault> {
    let is_within =
        |rate: &Rate| rate.calls as usize <= CALLS_KEPT_MAX && rate.window_ms <= CALL_WINDOW_MS_MAX;
    parse_rate(text).filter(is_within).ok_or(ValueFault::NotRate)
}

/// A ratio such as `1.5`, in percent: two decimals are enough, and percents compare exactly.
pub(super) fn ratio_percent(text: &str) -> Result<u32, ValueFault> {
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

pub(super) fn log_level(text: &str) -> Result<LogLevel, ValueFault> {
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
pub(super) fn one_of<T: Copy>(
    text: &str,
    choices: &[(&str, T)],
    words: &'static [&'static str],
) -> Result<T, ValueFault> {
    let called = |choice: &&(&str, T)| choice.0.eq_ignore_ascii_case(text);
    choices.iter().find(called).map(|choice| choice.1).ok_or(ValueFault::NotOneOf(words))
}
