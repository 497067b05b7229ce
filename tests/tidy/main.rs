//! The rules that a compiler does not check: who may use whom, how long things may be, what
//! must not stand anywhere, and that what is written about the code is so.
//!
//! Each rule reports every place that breaks it at once. The sources are read as text in which
//! comments and literals are blanked out (see `source`); that is enough for these rules and
//! needs no parser.

mod documents;
mod source;

use std::collections::BTreeMap;

use source::{Source, project_root, sources};

/// Which module may use which: the arrows all point one way. `cli` and the crate's roots may
/// use everything. Growing a row is a decision about the design, not a way to pass a test.
const MAY_USE: &[(&str, &[&str])] = &[
    ("limits", &[]),
    ("ids", &["limits"]),
    ("time", &["limits"]),
    ("metrics", &["limits"]),
    ("config", &["ids", "limits", "time"]),
    ("formula", &["limits"]),
    ("record", &["formula", "ids", "limits", "time"]),
    ("log", &["ids", "limits"]),
    ("state", &["formula", "ids", "limits", "record", "time"]),
    ("engine", &["formula", "ids", "limits", "log", "metrics", "record", "state", "time"]),
    ("outbound", &["config", "ids", "limits", "metrics", "record", "time"]),
    ("workers", &["config", "engine", "ids", "limits", "metrics", "outbound", "time"]),
    (
        "http",
        &["config", "engine", "formula", "ids", "limits", "metrics", "outbound", "time", "workers"],
    ),
];

/// Modules that may use everything.
const ROOTS: &[&str] = &["cli", "lib", "main"];

/// Modules in which nobody names the asynchronous runtime or the HTTP library.
const BELOW_ENGINE: &[&str] =
    &["limits", "ids", "time", "metrics", "formula", "record", "log", "state"];

/// Where files may be touched.
const FILE_DOORS: &[&str] = &["src/log/disk", "src/log/os_disk", "src/cli/", "src/config"];

/// Where clocks may be read.
const CLOCK_DOORS: &[&str] = &["src/time.rs"];

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_COLUMNS_MAX: usize = 100;

/// Fails with all places that break a rule.
#[track_caller]
fn assert_none(rule: &str, places: Vec<String>) {
    assert!(places.is_empty(), "{rule}:\n  {}", places.join("\n  "));
}

#[test]
fn modules_use_only_what_the_design_allows() {
    let table: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let mut places = Vec::new();
    for source in sources().iter().filter(|source| source.is_product()) {
        let module = source.module();
        if ROOTS.contains(&module) {
            continue;
        }
        let Some(allowed) = table.get(module) else {
            places.push(format!("{}: module {module} is not in the table", source.path));
            continue;
        };
        for (line, used) in source.crate_paths() {
            if used != module && !allowed.contains(&used.as_str()) {
                places.push(format!("{}:{line}: {module} uses {used}", source.path));
            }
        }
    }
    assert_none("a module uses one that it may not", places);
}

#[test]
fn the_table_of_modules_has_no_way_back() {
    let table: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let mut done: Vec<&str> = Vec::new();
    while done.len() < table.len() {
        let ready = |name: &&&str| {
            !done.contains(*name) && table[**name].iter().all(|used| done.contains(used))
        };
        let next = table.keys().find(ready).copied();
        done.push(next.expect("the rest of the table goes round in a circle"));
    }
}

#[test]
fn runtime_and_http_library_stay_above_the_engine() {
    let mut places = Vec::new();
    for source in sources().iter().filter(|source| source.is_product()) {
        let module = source.module();
        for (number, line) in source.product_lines() {
            let named = source::words(line);
            let names_any = ["tokio", "hyper", "hyper_util", "http_body_util"]
                .iter()
                .any(|it| named.contains(it));
            let is_channel = module == "engine"
                && line.matches("tokio").count() == line.matches("tokio::sync").count();
            let is_below = BELOW_ENGINE.contains(&module) || module == "engine";
            if is_below && names_any && !is_channel {
                places.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    assert_none("tokio or hyper below the engine, or more of tokio than its channels", places);
}

#[test]
fn files_lines_and_functions_are_short() {
    let mut places = Vec::new();
    for source in &sources() {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            places.push(format!("{}: {lines} lines, at most {FILE_LINES_MAX}", source.path));
        }
        for (number, columns) in source.wide_lines(LINE_COLUMNS_MAX) {
            places.push(format!("{}:{number}: {columns} columns", source.path));
        }
        for function in source.functions() {
            if function.lines > FUNCTION_LINES_MAX {
                let source::Function { line, name, lines } = function;
                places.push(format!("{}:{line}: fn {name} has {lines} lines", source.path));
            }
        }
    }
    assert_none("too long", places);
}

#[test]
fn nothing_is_left_over() {
    // Split, so that this file does not find itself.
    let left_over = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("dbg", "!"),
        concat!("to", "do!"),
        concat!("unimplemented", "!"),
        concat!("#[", "ignore"),
    ];
    let mut places = Vec::new();
    for source in &sources() {
        for (number, line) in (1..).zip(source.text.lines()) {
            if left_over.iter().any(|text| line.contains(text)) {
                places.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    assert_none("left over", places);
}

#[test]
fn failures_are_handled_outside_tests() {
    let mut places = Vec::new();
    for source in sources().iter().filter(|source| source.is_product()) {
        for (number, line) in source.product_lines() {
            if line.contains(".unwrap()") {
                places.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    assert_none("unwrap outside tests", places);
}

#[test]
fn every_file_says_what_it_is_for() {
    let lacks_header =
        |source: &&Source| !source.is_test_module() && !source.text.starts_with("//!");
    let places = sources().iter().filter(lacks_header).map(|source| source.path.clone()).collect();
    assert_none("a file without a header", places);
}

#[test]
fn files_and_clocks_are_touched_through_their_doors() {
    let is_behind = |doors: &[&str], path: &str| doors.iter().any(|door| path.starts_with(door));
    let mut places = Vec::new();
    for source in sources().iter().filter(|source| source.is_product()) {
        for (number, line) in source.product_lines() {
            let touches_files = line.contains("std::fs") || line.contains("rustix::fs");
            // The runtime's own clock drives its timers and goes into nothing that is stored.
            let names = source::words(line);
            let reads_clock = line.contains("std::time")
                && (names.contains(&"Instant") || names.contains(&"SystemTime"));
            let is_beside = (touches_files && !is_behind(FILE_DOORS, &source.path))
                || (reads_clock && !is_behind(CLOCK_DOORS, &source.path));
            if is_beside {
                places.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    assert_none("files or clocks beside their door", places);
}

#[test]
fn tests_wait_for_events_and_not_for_time() {
    let sleep = concat!("sleep", "(");
    let mut places = Vec::new();
    // A benchmark has no event to wait for while the program that it measures starts.
    for source in sources().iter().filter(|source| !source.path.starts_with("benches/")) {
        for (number, line) in source.test_lines() {
            if line.contains(sleep) {
                places.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    assert_none("a test sleeps", places);
}

#[test]
fn top_level_holds_what_the_design_says() {
    let known = [
        "Cargo.lock",
        "Cargo.toml",
        "README.md",
        "benches",
        "data",
        "docs",
        "rustfmt.toml",
        "src",
        "tests",
        "target",
        "sillage-data",
    ];
    let entries = std::fs::read_dir(project_root()).expect("the project can be listed");
    let names = entries.map(|entry| {
        entry.expect("the project can be listed").file_name().to_string_lossy().into_owned()
    });
    let strange = names.filter(|name| {
        !known.contains(&name.as_str()) && !name.starts_with('.') && !name.starts_with("LICENSE")
    });
    assert_none("not at the top level", strange.collect());
}
