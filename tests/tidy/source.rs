//! Rust sources as text in which comments and literals are blanked out.
//!
//! The blanked text has the same lines and columns, so that a place found in it is a place in
//! the file. Doc comments are comments: a link in one is no use of a module.

use std::ops::Range;
use std::path::{Path, PathBuf};

/// One Rust file of the project.
#[derive(Debug)]
pub(crate) struct Source {
    /// Relative to the project, with `/`.
    pub(crate) path: String,
    /// As it stands in the file.
    pub(crate) text: String,
    /// Comments, strings and characters replaced by blanks.
    blanked: String,
    /// Byte ranges of test modules in the blanked text.
    tests: Vec<Range<usize>>,
    /// Whether the whole file is a module that is compiled for tests only.
    is_test_module: bool,
}

/// A function with a body.
#[derive(Debug)]
pub(crate) struct Function {
    /// Where it begins, from 1.
    pub(crate) line: usize,
    /// Its name.
    pub(crate) name: String,
    /// From its `fn` to its closing brace.
    pub(crate) lines: usize,
}

/// Where the project is.
pub(crate) fn project_root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files of the project.
pub(crate) fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    for directory in ["src", "tests", "benches"] {
        collect(&project_root().join(directory), &mut paths);
    }
    assert!(!paths.is_empty(), "the sources are there");
    paths.sort();
    let mut sources: Vec<Source> = paths.iter().map(|path| Source::read(path)).collect();
    let test_modules: Vec<String> = sources.iter().flat_map(Source::test_files).collect();
    for source in &mut sources {
        let is_inside = |module: &String| {
            // What a test module declares lies in the directory of its name.
            let inside = source.path.strip_prefix(module.trim_end_matches(".rs"));
            inside.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        source.is_test_module = test_modules.iter().any(is_inside);
    }
    sources
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries {
        let path = entry.expect("the project can be listed").path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|end| end == "rs") {
            paths.push(path);
        }
    }
}

/// The words of a line: identifiers and numbers.
pub(crate) fn words(line: &str) -> Vec<&str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).collect()
}

impl Source {
    fn read(path: &Path) -> Source {
        let relative = path.strip_prefix(project_root()).expect("a file of the project");
        let text = std::fs::read_to_string(path).expect("sources are UTF-8");
        let path = relative.to_string_lossy().replace('\\', "/");
        Source::new(path, text)
    }

    fn new(path: String, text: String) -> Source {
        let blanked = blank(&text);
        let tests = test_modules(&blanked);
        Source { path, text, blanked, tests, is_test_module: false }
    }

    /// Whether this is part of the program, and not a test of it.
    pub(crate) fn is_product(&self) -> bool {
        self.path.starts_with("src/") && !self.is_test_module
    }

    /// Whether this file is a module that is compiled for tests only.
    pub(crate) fn is_test_module(&self) -> bool {
        self.is_test_module
    }

    /// Lines with more columns than this, with their numbers. In tests only code counts: breaking
    /// long test data makes it harder to read, and to compare.
    pub(crate) fn wide_lines(&self, columns_max: usize) -> Vec<(usize, usize)> {
        let lines = (1..).zip(self.text.lines().zip(self.blanked.lines()));
        let width = |(number, (line, code)): (usize, (&str, &str))| {
            let columns = line.chars().count();
            // A row of a table in a doc comment cannot be broken at all.
            let is_table_row =
                ["//! |", "/// |"].iter().any(|it| line.trim_start().starts_with(it));
            let counted = if self.is_product() { columns } else { code.trim_end().len() };
            (number, if is_table_row { 0 } else { columns.min(counted) })
        };
        lines.map(width).filter(|(_, columns)| *columns > columns_max).collect()
    }

    /// The files of modules that this one declares for tests only.
    fn test_files(&self) -> Vec<String> {
        let directory = match self.path.strip_suffix("/mod.rs") {
            Some(directory) => directory.to_owned(),
            None => self.path.trim_end_matches(".rs").to_owned(),
        };
        let directory = directory.trim_end_matches("/lib").trim_end_matches("/main").to_owned();
        let mut files = Vec::new();
        for (at, attribute) in self.blanked.match_indices("#[cfg(test)]") {
            let item = self.blanked[at + attribute.len()..].trim_start();
            let declared = item.strip_prefix("mod ").and_then(|rest| rest.split_once(';'));
            let name = declared.map(|(name, _)| name).filter(|name| words(name).len() == 1);
            files.extend(name.map(|name| format!("{directory}/{name}.rs")));
        }
        files
    }

    /// The module directly below the crate that this file belongs to.
    pub(crate) fn module(&self) -> &str {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs")
    }

    /// Lines outside test modules, blanked, with their numbers.
    pub(crate) fn product_lines(&self) -> Vec<(usize, &str)> {
        self.lines_where(|at| !self.is_test(at))
    }

    /// Lines of tests, blanked, with their numbers.
    pub(crate) fn test_lines(&self) -> Vec<(usize, &str)> {
        self.lines_where(|at| !self.is_product() || self.is_test(at))
    }

    /// First names of all paths that begin with `crate::`, outside test modules.
    pub(crate) fn crate_paths(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for (at, _) in self.blanked.match_indices("crate::") {
            let before = self.blanked[..at].chars().next_back();
            if self.is_test(at) || before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                continue;
            }
            let rest = &self.blanked[at + "crate::".len()..];
            let line = self.line_of(at);
            found.extend(first_names(rest).into_iter().map(|name| (line, name)));
        }
        found
    }

    /// All functions with a body.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        for (at, _) in self.blanked.match_indices("fn ") {
            let is_word = self.blanked[..at].ends_with(|c: char| c.is_whitespace() || c == '(');
            let name = self.blanked[at + 3..].split(|c: char| !c.is_alphanumeric() && c != '_');
            let name = name.into_iter().next().unwrap_or_default();
            if (at > 0 && !is_word) || name.is_empty() {
                continue;
            }
            if let Some(end) = end_of_body(&self.blanked, at) {
                let (line, last) = (self.line_of(at), self.line_of(end));
                found.push(Function { line, name: name.to_owned(), lines: last - line + 1 });
            }
        }
        found
    }

    fn lines_where(&self, wanted: impl Fn(usize) -> bool) -> Vec<(usize, &str)> {
        let mut at = 0;
        let mut lines = Vec::new();
        for (number, line) in (1..).zip(self.blanked.split('\n')) {
            if wanted(at) {
                lines.push((number, line));
            }
            at += line.len() + 1;
        }
        lines
    }

    fn is_test(&self, at: usize) -> bool {
        self.tests.iter().any(|range| range.contains(&at))
    }

    fn line_of(&self, at: usize) -> usize {
        self.blanked[..at].matches('\n').count() + 1
    }
}

/// The names that follow `crate::`: one, or those of a group `{a::x, b}`.
fn first_names(rest: &str) -> Vec<String> {
    let Some(group) = rest.strip_prefix('{') else {
        return words(rest).first().map(|word| (*word).to_owned()).into_iter().collect();
    };
    let (mut names, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                names.extend(words(&group[start..at]).first().map(|word| (*word).to_owned()));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names
}

/// Where the body of the function that begins at `at` ends; `None` if it has none.
fn end_of_body(blanked: &str, at: usize) -> Option<usize> {
    let mut inside = 0_u32;
    for (offset, c) in blanked[at..].char_indices() {
        match c {
            '(' | '[' => inside += 1,
            ')' | ']' => inside = inside.checked_sub(1)?,
            ';' if inside == 0 => return None,
            '{' if inside == 0 => return matching_brace(blanked, at + offset),
            _ => {}
        }
    }
    None
}

fn matching_brace(blanked: &str, open: usize) -> Option<usize> {
    let mut depth = 0_u32;
    for (offset, c) in blanked[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(open + offset);
        }
    }
    None
}

/// The ranges of items that are compiled for tests only and have a body.
fn test_modules(blanked: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    for (at, attribute) in blanked.match_indices("#[cfg(test)]") {
        let item = &blanked[at + attribute.len()..];
        let body = item.find('{').filter(|&open| !item[..open].contains(';'));
        let end = body.and_then(|open| matching_brace(blanked, at + attribute.len() + open));
        ranges.extend(end.map(|end| at..end + 1));
    }
    ranges
}

/// The text with comments and literals replaced by blanks, line by line the same length.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut blanked = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match &bytes[at..] {
            [b'/', b'/', ..] => find(bytes, at, b"\n"),
            [b'/', b'*', ..] => end_of_comment(bytes, at),
            [b'"', ..] => end_of_string(bytes, at),
            [b'r', b'"' | b'#', ..] if !is_within_word(bytes, at) => end_of_raw_string(bytes, at),
            [b'\'', ..] => end_of_character(bytes, at),
            _ => at,
        };
        let literal = blanked[at..end].iter_mut();
        literal.filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        at = end.max(at + 1);
    }
    String::from_utf8(blanked).expect("only whole literals were blanked")
}

fn is_within_word(bytes: &[u8], at: usize) -> bool {
    // The `b` of a raw byte string is no word that the `r` belongs to.
    let before = bytes[..at].iter().rev().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_');
    let before: Vec<u8> = before.copied().collect();
    !before.is_empty() && before != b"b"
}

/// Where `pattern` begins at or after `from`, else the end.
fn find(bytes: &[u8], from: usize, pattern: &[u8]) -> usize {
    let found = bytes[from..].windows(pattern.len()).position(|window| window == pattern);
    found.map_or(bytes.len(), |offset| from + offset)
}

/// Behind a block comment, which may hold others.
fn end_of_comment(bytes: &[u8], open: usize) -> usize {
    let (mut at, mut depth) = (open, 0_u32);
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => depth += 1,
            [b'*', b'/', ..] => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

fn end_of_string(bytes: &[u8], open: usize) -> usize {
    let mut at = open + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Behind `r"…"` or `r#"…"#`; where it began if it is no raw string, such as `r#type`.
fn end_of_raw_string(bytes: &[u8], open: usize) -> usize {
    let hashes = bytes[open + 1..].iter().take_while(|&&byte| byte == b'#').count();
    if bytes.get(open + 1 + hashes) != Some(&b'"') {
        return open;
    }
    let close = [&b"\""[..], &b"#".repeat(hashes)].concat();
    let found = find(bytes, open + 2 + hashes, &close);
    bytes.len().min(found + close.len())
}

/// Behind a character; where it began if this is a lifetime.
fn end_of_character(bytes: &[u8], open: usize) -> usize {
    match &bytes[open + 1..] {
        [b'\\', b'u', ..] => find(bytes, open + 2, b"'") + 1,
        [b'\\', b'x', _, _, b'\'', ..] => open + 6,
        [b'\\', _, b'\'', ..] => open + 4,
        [first, rest @ ..] if *first != b'\'' => {
            let more = rest.iter().take_while(|byte| **byte & 0xC0 == 0x80).count();
            if rest.get(more) == Some(&b'\'') { open + 3 + more } else { open }
        }
        _ => open,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::new("src/http/mod.rs".to_owned(), text.to_owned())
    }

    #[test]
    fn comments_and_literals_are_blank_and_the_rest_keeps_its_place() {
        let text =
            "let a = \"{ \\\" }\"; // {\nlet b = '{'; /* { /* */ } */ let c: &'a str = r#\"\"{\"#;";
        let blanked = blank(text);
        assert_eq!(blanked.len(), text.len());
        assert!(!blanked.contains(['{', '}', '"']), "{blanked}");
        assert!(blanked.contains("let c: &'a str = "), "{blanked}");
        for literal in ["'é'", "'{'", "'\\n'", "'\\u{7b}'", "r\"{\"", "r##\"\"#{\"##"] {
            let blanked = blank(literal);
            assert!(blanked.bytes().all(|byte| byte == b' '), "{literal}: {blanked}");
        }
        assert_eq!(blank("r#type<'a>"), "r#type<'a>");
    }

    #[test]
    fn functions_are_measured_from_their_name_to_their_brace() {
        let found =
            source("fn a() -> [u8; 2] {\n  b(|| {\n  })\n}\ntrait T { fn c(); }\n").functions();
        let found: Vec<_> = found.iter().map(|f| (f.line, f.name.as_str(), f.lines)).collect();
        assert_eq!(found, [(1, "a", 4)]);
    }

    #[test]
    fn a_module_for_tests_only_is_no_product() {
        let found = source("#[cfg(test)]\nmod harness;\nmod routes;\n").test_files();
        assert_eq!(found, ["src/http/harness.rs"]);
    }

    #[test]
    fn paths_into_the_crate_are_found_in_groups_and_not_in_tests() {
        let found = source(
            "use crate::ids::Lsn;\nuse crate::{formula::{self, A}, time};\n// crate::log\n\
             fn f() { crate::engine::g() }\n#[cfg(test)]\nmod tests { use crate::cli::x; }\n",
        );
        let names: Vec<_> = found.crate_paths();
        let expected = [(1, "ids"), (2, "formula"), (2, "time"), (4, "engine")];
        assert_eq!(names, expected.map(|(line, name)| (line, name.to_owned())));
    }
}
