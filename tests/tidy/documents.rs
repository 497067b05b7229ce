//! What is written about the code is so.

use std::collections::BTreeSet;
use std::path::Path;

use super::assert_none;
use super::source::{project_root, sources, words};

fn read(path: &str) -> String {
    let found = std::fs::read_to_string(project_root().join(path));
    found.unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The texts between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

#[test]
fn every_dependency_is_explained() {
    let manifest: toml::Table = read("Cargo.toml").parse().expect("Cargo.toml is TOML");
    let explained = read("docs/DEPENDENCIES.md");
    let rows = explained.lines().filter_map(|line| line.strip_prefix('|')?.split('|').next());
    // A row may stand for crates of one family: `hyper, hyper-util`.
    let names = rows.flat_map(|cell| cell.split(','));
    let rows: BTreeSet<&str> = names
        .filter_map(|name| name.split_whitespace().next())
        .map(|n| n.trim_matches('`'))
        .collect();
    let mut places = Vec::new();
    for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let names = manifest.get(table).and_then(toml::Value::as_table).into_iter().flatten();
        let missing = names.filter(|(name, _)| !rows.contains(name.as_str()));
        places.extend(missing.map(|(name, _)| format!("{name} of [{table}]")));
    }
    assert_none("no line in docs/DEPENDENCIES.md", places);
}

#[test]
fn every_dependency_is_used_by_the_program_and_not_by_its_tests_alone() {
    let manifest: toml::Table = read("Cargo.toml").parse().expect("Cargo.toml is TOML");
    let sources = sources();
    let product = sources.iter().filter(|source| source.is_product());
    let used: BTreeSet<&str> = product
        .flat_map(|source| source.product_lines())
        .flat_map(|(_, line)| words(line))
        .collect();
    let names = manifest["dependencies"].as_table().expect("a table").keys();
    let unused = names.filter(|name| !used.contains(name.replace('-', "_").as_str()));
    assert_none("belongs into [dev-dependencies], or nowhere", unused.cloned().collect());
}

#[test]
fn every_file_that_a_document_links_to_exists() {
    let pages = std::fs::read_dir(project_root().join("docs")).expect("there are documents");
    let pages = pages.map(|page| page.expect("an entry").file_name());
    let pages = pages.map(|name| format!("docs/{}", name.to_string_lossy()));
    let mut places = Vec::new();
    for document in pages.chain(["README.md".to_owned()]) {
        let text = read(&document);
        let beside = Path::new(&document).parent().expect("a file of the project");
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        let files = targets.map(|(target, _)| target).filter(|target| !target.contains("://"));
        let missing = files.filter(|target| !project_root().join(beside).join(target).exists());
        places.extend(missing.map(|target| format!("{document}: {target}")));
    }
    assert_none("linked to and not there", places);
}

#[test]
fn every_test_that_the_readme_names_exists() {
    let readme = read("README.md");
    let promise = section(&readme, "promise");
    let rows: Vec<&str> = promise.lines().filter(|line| line.starts_with('|')).collect();
    assert!(rows.len() > 2, "the README has a table of promises");
    let functions: BTreeSet<String> = sources()
        .iter()
        .flat_map(|source| source.functions().into_iter().map(|function| function.name))
        .collect();
    let named = rows.iter().flat_map(|row| quoted(row)).filter(|name| is_name_of_a_test(name));
    let mut places = Vec::new();
    for name in named {
        let (file, function) = name.split_once("::").map_or((None, name), |(a, b)| (Some(a), b));
        let file = file.or_else(|| name.ends_with(".rs").then_some(name));
        if file.is_some_and(|file| file.ends_with(".rs") && !project_root().join(file).exists()) {
            places.push(format!("no file {name}"));
        }
        let function = function.rsplit("::").next().unwrap_or(function);
        if !function.ends_with(".rs") && !functions.contains(function) {
            places.push(format!("no test {name}"));
        }
    }
    assert_none("named in the README and not there", places);
}

/// A path to a Rust file, a path to a function, or a sentence with underscores.
fn is_name_of_a_test(text: &str) -> bool {
    let is_plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_:/.".contains(&b));
    is_plain && (text.ends_with(".rs") || text.contains("::") || text.matches('_').count() >= 2)
}

/// The text under the first heading that holds this word, up to the next one of its level.
fn section<'a>(document: &'a str, word: &str) -> &'a str {
    let mut level = 0;
    let (mut start, mut at) = (document.len(), 0);
    for line in document.split_inclusive('\n') {
        let hashes = line.bytes().take_while(|byte| *byte == b'#').count();
        if level == 0 && hashes > 0 && line.to_lowercase().contains(word) {
            (level, start) = (hashes, at + line.len());
        } else if level > 0 && (1..=level).contains(&hashes) {
            return &document[start..at];
        }
        at += line.len();
    }
    &document[start..]
}

#[test]
fn the_full_check_can_be_run() {
    let script = read(".ci/run");
    assert!(script.starts_with("#!/usr/bin/env bash\n"));
    assert!(script.contains("cargo test"), "it runs the tests");
}
