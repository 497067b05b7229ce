//! Formulas as clients see them, with their digits.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Client;

/// A formula of a response. `RawValue` keeps concentrations as the text that was sent.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Formula {
    pub(crate) id: String,
    pub(crate) seq: u64,
    pub(crate) name: String,
    pub(crate) materials: Vec<Material>,
    pub(crate) accepted_at: String,
    pub(crate) trail: String,
}

/// One line of a formula.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Material {
    pub(crate) name: String,
    pub(crate) concentration: Box<RawValue>,
}

impl Formula {
    /// Names and digits of the lines, in order.
    pub(crate) fn lines(&self) -> Vec<(&str, &str)> {
        self.materials.iter().map(|line| (line.name.as_str(), line.concentration.get())).collect()
    }
}

#[derive(Deserialize)]
struct Page {
    formulas: Vec<Formula>,
    next: Option<String>,
}

/// A body for `POST /formulas`. Concentrations are written as they stand: `10`, `"10.0"`.
pub(crate) fn body(name: &str, materials: &[(&str, &str)]) -> String {
    let line = |(name, digits): &(&str, &str)| {
        let name = serde_json::to_string(name).expect("text is JSON");
        format!(r#"{{"name":{name},"concentration":{digits}}}"#)
    };
    let lines: Vec<String> = materials.iter().map(line).collect();
    let name = serde_json::to_string(name).expect("text is JSON");
    format!(r#"{{"name":{name},"materials":[{}]}}"#, lines.join(","))
}

/// A body whose make-up differs for each number.
pub(crate) fn numbered(number: u64) -> String {
    let digits = format!("{}.{:04}", number / 10_000 % 90, number % 10_000);
    let base = format!("Base {}", number / 900_000);
    body(&format!("Formula {number}"), &[("Hedione", "7.50"), (&base, "1"), ("Trace", &digits)])
}

/// All formulas of the store, read page by page.
pub(crate) fn list_all(client: &mut Client) -> Vec<Formula> {
    let mut formulas = Vec::new();
    let mut after = String::new();
    loop {
        let page: Page = client.get(&format!("/formulas?limit=1000{after}")).expect(200).parse();
        formulas.extend(page.formulas);
        let Some(next) = page.next else {
            return formulas;
        };
        let cursor: String = form_urlencoded::byte_serialize(next.as_bytes()).collect();
        after = format!("&after={cursor}");
    }
}

/// A file of the shared development data; `None`, and a line that says so, when it is not here.
pub(crate) fn shared_data(file: &str) -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let directory = std::env::var_os("SILLAGE_SHARED_DATA").map_or_else(beside, PathBuf::from);
    let path = directory.join(file);
    if path.is_file() {
        return Some(path);
    }
    eprintln!("skipped: {} is not here", path.display());
    None
}
