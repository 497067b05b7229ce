//! The configuration file: TOML with one key per setting and no tables.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use crate::config::{Form, Invalid, SETTINGS, Setting, find};
use crate::limits::CONFIG_BYTES_MAX;

/// How alike, from 0 to 1, an unknown key and a setting must be for the one to be taken for a
/// slip of the other. Clap uses the same figure for flags.
const SIMILAR_MIN: f64 = 0.7;

/// One setting in the file.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) setting: &'static Setting,
    /// The value as text; `None` if it is of a kind that no setting takes.
    pub(super) text: Option<String>,
    pub(super) path: Arc<Path>,
    /// The line of the key, from 1.
    pub(super) line: usize,
}

/// The settings in the file, by line.
///
/// # Errors
/// If the file cannot be read, is not TOML, or has keys that are no settings.
pub(super) fn read(path: &Path) -> Result<Vec<Entry>, Invalid> {
    let text = read_text(path)?;
    let table = DeTable::parse(&text).map_err(|error| Invalid::Syntax {
        path: path.to_owned(),
        line: error.span().map_or(1, |span| line_at(&text, span.start)),
        detail: one_line(error.message()),
    })?;
    let path: Arc<Path> = path.into();
    let mut entries = Vec::new();
    for (key, value) in table.get_ref() {
        let line = line_at(&text, key.span().start);
        let setting = find(key.get_ref()).ok_or_else(|| unknown_key(&path, line, key.get_ref()))?;
        let text = text_of(setting, value.get_ref());
        entries.push(Entry { setting, text, path: Arc::clone(&path), line });
    }
    entries.sort_by_key(|entry| entry.line);
    Ok(entries)
}

fn read_text(path: &Path) -> Result<String, Invalid> {
    let unreadable = |error| Invalid::Unreadable { path: path.to_owned(), error };
    let file = File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    file.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > CONFIG_BYTES_MAX {
        return Err(Invalid::TooLong { path: path.to_owned() });
    }
    Ok(text)
}

fn text_of(setting: &Setting, value: &DeValue<'_>) -> Option<String> {
    match (setting.form, value) {
        (Form::List(_), DeValue::Array(items)) => {
            let texts: Option<Vec<_>> =
                items.iter().map(|item| plain_text(item.get_ref())).collect();
            texts.map(|texts| texts.join(","))
        }
        _ => plain_text(value),
    }
}

fn plain_text(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(value) => Some(value.to_string()),
        _ => None,
    }
}

fn unknown_key(path: &Path, line: usize, key: &str) -> Invalid {
    let likeness = |setting: &Setting| strsim::jaro(key, setting.key);
    let similar = SETTINGS
        .iter()
        .filter(|setting| likeness(setting) > SIMILAR_MIN)
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .map(|setting| setting.key);
    Invalid::UnknownKey { path: path.to_owned(), line, key: key.to_owned(), similar }
}

/// The line, from 1, of the byte at `offset`.
fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|&byte| byte == b'\n').count()
}

fn one_line(message: &str) -> String {
    message.lines().map(str::trim).collect::<Vec<_>>().join(", ")
}
