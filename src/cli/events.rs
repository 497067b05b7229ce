//! Events: what the service tells its operators, on stderr, one line each.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt;

use crate::config::{Config, LogFormat, LogLevel};

/// Sends the process's events to stderr from now on, in the configured format and level.
///
/// Does nothing if events already go somewhere, as in tests that run several services.
pub(crate) fn start(config: &Config) {
    start_as(config.log_format, config.log_level);
}

/// The same without a configuration; `None`: the format goes by whether stderr is a terminal.
pub(crate) fn start_as(format: Option<LogFormat>, least: LogLevel) {
    // What cannot be written is not written about: that would fail, too, and end the process.
    let builder =
        fmt().with_max_level(level(least)).with_writer(io::stderr).log_internal_errors(false);
    let is_terminal = io::stderr().is_terminal();
    let by_terminal = if is_terminal { LogFormat::Pretty } else { LogFormat::Json };
    let started = match format.unwrap_or(by_terminal) {
        LogFormat::Pretty => builder.with_ansi(is_terminal).with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
    };
    drop(started);
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
