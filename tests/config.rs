//! Configuration, through the real program: layers, origins, refusals.

use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

/// Runs `sillage config` with this file, environment and these arguments.
struct Setup {
    directory: TempDir,
    variables: Vec<(&'static str, String)>,
    arguments: Vec<String>,
}

impl Setup {
    fn new() -> Setup {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Setup { directory, variables: Vec::new(), arguments: Vec::new() }
    }

    fn file(mut self, text: &str) -> Setup {
        std::fs::write(self.path(), text).expect("the directory is ours");
        let path = self.path().display().to_string();
        self.arguments.extend(["--config".to_owned(), path]);
        self
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("sillage.toml")
    }

    fn variable(mut self, name: &'static str, value: &str) -> Setup {
        self.variables.push((name, value.to_owned()));
        self
    }

    fn flags(mut self, flags: &[&str]) -> Setup {
        self.arguments.extend(flags.iter().map(|&flag| flag.to_owned()));
        self
    }

    fn run(&self, command: &str) -> Output {
        let mut program = Command::new(env!("CARGO_BIN_EXE_sillage"));
        program.arg(command).args(&self.arguments).current_dir(self.directory.path());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SILLAGE_") {
                program.env_remove(name);
            }
        }
        program.envs(self.variables.iter().cloned()).output().expect("the program runs")
    }

    #[track_caller]
    fn shown(&self) -> String {
        let output = self.run("config");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// The one line with which the configuration is refused.
    #[track_caller]
    fn refusal(&self) -> String {
        let output = self.run("config");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        let text = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(text.lines().count(), 1, "{text}");
        text
    }
}

#[track_caller]
fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} in:\n{text}");
    }
}

#[test]
fn defaults_are_those_of_the_contract() {
    let expected = "\
        data = \"./sillage-data\"  # default\n\
        listen = \"127.0.0.1:8080\"  # default\n\
        ephemeral = false  # default\n\
        reset = false  # default\n\
        require_idempotency_key = false  # default\n\
        idempotency_retention = \"24h\"  # default\n\
        max_attempts = 5  # default\n\
        max_concentration = 100  # default\n\
        # flow is not set: none\n\
        # seal_url is not set\n\
        # seal_key is not set\n\
        seal_rate = \"10/min\"  # default\n\
        seal_mode = \"window\"  # default\n\
        seal_attempts = 20  # default\n\
        # seal_public_key is not set\n\
        seal_deadline = \"10s\"  # default\n\
        backoff_base = \"2s\"  # default\n\
        backoff_cap = \"300s\"  # default\n\
        # nodes is not set\n\
        node_deadline = \"5s\"  # default\n\
        heal_every = \"30s\"  # default\n\
        # webhook_secret is not set\n\
        # webhook_allow is not set\n\
        webhook_attempts = 20  # default\n\
        webhook_deadline = \"10s\"  # default\n\
        serve_groups = false  # default\n\
        # tokens is not set\n\
        # log_format is not set: pretty on a terminal, json otherwise\n\
        log_level = \"info\"  # default\n\
        segment_size = \"64MiB\"  # default\n\
        snapshot_ratio = \"1.0\"  # default\n";
    assert_eq!(Setup::new().shown(), expected);
}

#[test]
fn file_beats_default_variable_beats_file_flag_beats_variable() {
    let setup = Setup::new()
        .file("# comment\nmax_attempts = 6\nlog_level = \"debug\"\n\nsegment_size = '1MiB'\n")
        .variable("SILLAGE_LOG_LEVEL", "WARN")
        .variable("SILLAGE_SEGMENT_SIZE", "2MiB")
        .flags(&["--segment-size", "4MiB"]);
    let file = setup.path();
    let from_file = format!("max_attempts = 6  # {}:2", file.display());
    let expected = [
        "max_concentration = 100  # default",
        &from_file,
        "log_level = \"WARN\"  # SILLAGE_LOG_LEVEL",
        "segment_size = \"4MiB\"  # --segment-size",
    ];
    assert_has(&setup.shown(), &expected);
}

#[test]
fn what_is_shown_can_be_used_as_a_file() {
    let first = Setup::new().flags(&["--data", "a \"b\"\\c", "--max-attempts=9", "--ephemeral"]);
    let shown = first.shown();
    let values = |text: &str| -> Vec<String> {
        let value = |line: &str| line.split("  # ").next().unwrap_or_default().to_owned();
        text.lines().map(value).collect()
    };
    assert_eq!(values(&Setup::new().file(&shown).shown()), values(&shown));
}

#[test]
fn switches_are_on_when_bare_and_can_be_switched_off() {
    let bare = Setup::new().flags(&["--ephemeral"]).shown();
    assert_has(&bare, &["ephemeral = true  # --ephemeral"]);
    let off = Setup::new().file("ephemeral = true\n").flags(&["--ephemeral=false"]).shown();
    assert_has(&off, &["ephemeral = false  # --ephemeral"]);
    let by_variable = Setup::new().variable("SILLAGE_EPHEMERAL", "true").shown();
    assert_has(&by_variable, &["ephemeral = true  # SILLAGE_EPHEMERAL"]);
}

#[test]
fn list_can_be_an_array_in_the_file() {
    let file = "flow = ['seal']\nseal_url = 'http://a:1'\nseal_key = 'k'\n\
                webhook_allow = ['127.0.0.0/8', 'fd00::/8']\n";
    let shown = Setup::new().file(file).shown();
    assert_has(&shown, &["flow = \"seal\"", "webhook_allow = \"127.0.0.0/8,fd00::/8\""]);
    let refusal = Setup::new().file("listen = ['127.0.0.1:1']\n").refusal();
    assert_has(&refusal, &[":1: listen: is not a string"]);
    let refusal = Setup::new().file("flow = [['seal']]\n").refusal();
    assert_has(&refusal, &[":1: flow: is not a string"]);
}

/// So many nodes, each on a port of its own.
fn nodes(count: u16) -> String {
    let nodes: Vec<String> = (0..count).map(|n| format!("http://node:{}", 5000 + n)).collect();
    nodes.join(",")
}

#[test]
fn nodes_are_one_to_sixteen_distinct_addresses_from_any_layer() {
    for count in [1, 3, 5, 16] {
        let nodes = nodes(count);
        let shown = Setup::new().flags(&["--nodes", &nodes]).shown();
        assert_has(&shown, &[&format!("nodes = \"{nodes}\"  # --nodes")]);
    }
    let file = "nodes = ['https://a.example/v2/', 'http://[::1]:5000']\n\nheal_every = '1s'\n";
    let shown = Setup::new().file(file).shown();
    assert_has(&shown, &["nodes = \"https://a.example/v2/,http://[::1]:5000\"  # ", ":1\n"]);
    let setup = Setup::new().file(file).variable("SILLAGE_NODES", "http://b:1, http://b:2");
    assert_has(&setup.shown(), &["nodes = \"http://b:1, http://b:2\"  # SILLAGE_NODES"]);

    // The bound holds for what is written and for its normal form.
    for (path, is_taken) in
        [("x".repeat(188), true), ("x".repeat(189), false), ("ü".repeat(40), false)]
    {
        let node = format!("http://node/{path}");
        let output = Setup::new().flags(&["--nodes", &node]).run("config");
        assert_eq!(output.status.success(), is_taken, "{} bytes", node.len());
    }

    let many = Setup::new().flags(&["--nodes", &nodes(17)]).refusal();
    assert_has(&many, &["--nodes: ", "is not a list of 1 to 16 addresses such as http://"]);
    let file = Setup::new().file("max_attempts = 5\nnodes = ['http://a', 'b']\n").refusal();
    assert_has(&file, &["sillage.toml:2: nodes: `http://a,b` is not a list of 1 to 16"]);
    let variable = Setup::new().variable("SILLAGE_NODE_DEADLINE", "1h").refusal();
    assert_has(&variable, &["SILLAGE_NODE_DEADLINE: `1h` is not from 50ms to 1m"]);
}

#[test]
fn one_node_in_two_spellings_is_named_twice() {
    for twice in [
        "http://a,http://a",
        "http://a,http://a/",
        "http://a,http://A:80",
        "https://a:443/,https://a",
        "http://a/x/,http://a/x",
        "http://127.0.0.1:5000,http://0x7f.1:5000",
        "http://b,http://a/./x,http://a/x",
    ] {
        let refusal = Setup::new().flags(&["--nodes", twice]).refusal();
        assert_has(&refusal, &["--nodes: ", twice, "names a node twice"]);
    }
    Setup::new().flags(&["--nodes", "http://a/x,http://a/y,https://a/x,http://a:81/x"]).shown();
}

#[test]
fn the_step_release_needs_nodes_and_comes_last() {
    let sealing = ["--seal-url=http://a:1", "--seal-key=k"];
    let flow = ["--flow", "seal, release"];
    let without_authority = Setup::new().flags(&flow).refusal();
    assert_has(&without_authority, &["--flow: cannot be set without --seal-url"]);
    let without_nodes = Setup::new().flags(&flow).flags(&sealing).refusal();
    assert_has(&without_nodes, &["--flow: cannot be set without --nodes"]);
    let file = "nodes = ['http://n:1']\nflow = ['seal', 'release']\n";
    let whole = Setup::new().file(file).flags(&sealing).shown();
    assert_has(&whole, &["flow = \"seal,release\"  # ", "sillage.toml:2\n"]);
    let alone = ["--flow", "release"];
    let without_nodes = Setup::new().flags(&alone).refusal();
    assert_has(&without_nodes, &["--flow: cannot be set without --nodes"]);
    // It needs no authority.
    Setup::new().flags(&alone).flags(&["--nodes", "http://n:1"]).shown();
    let turned = Setup::new().flags(&["--flow", "release,seal"]).refusal();
    assert_has(&turned, &["--flow: `release,seal` releases before it seals", "seal,release"]);
    let unknown = Setup::new().flags(&["--flow", "release,sell"]).refusal();
    assert_has(&unknown, &["--flow: `release,sell` is none of these: none; seal; release; "]);
    Setup::new().flags(&["--flow", "Seal"]).flags(&sealing).shown();
}

#[test]
fn empty_variable_counts_as_unset() {
    let setup = Setup::new().variable("SILLAGE_TOKENS", "").variable("SILLAGE_MAX_ATTEMPTS", "");
    assert_has(&setup.shown(), &["# tokens is not set", "max_attempts = 5  # default"]);
}

#[test]
fn configuration_file_can_be_named_by_variable() {
    let setup = Setup::new();
    std::fs::write(setup.path(), "max_attempts = 7\n").expect("the directory is ours");
    let path = setup.path().display().to_string();
    let setup = setup.variable("SILLAGE_CONFIG", &path);
    assert_has(&setup.shown(), &["max_attempts = 7"]);
}

#[test]
fn bad_value_names_flag_variable_or_line_and_what_would_do() {
    let flag = Setup::new().flags(&["--max-attempts", "0"]).refusal();
    assert_has(&flag, &["--max-attempts: `0` is not a whole number from 1 to 1000"]);
    let negative = Setup::new().flags(&["--max-concentration", "-5"]).refusal();
    assert_has(&negative, &["--max-concentration: `-5` is not a whole number"]);
    let variable = Setup::new().variable("SILLAGE_IDEMPOTENCY_RETENTION", "24").refusal();
    assert_has(&variable, &["SILLAGE_IDEMPOTENCY_RETENTION: `24` is not a duration such as 24h"]);
    let file = Setup::new().file("max_attempts = 5\n\nlisten = \"localhost:80\"\n");
    let place = format!("{}:3: listen: `localhost:80` is not an IP", file.path().display());
    assert_has(&file.refusal(), &[&place]);
}

#[test]
fn every_setting_refuses_what_it_cannot_mean() {
    let wrong = [
        ("--data", ""),
        ("--listen", "8080"),
        ("--ephemeral=yes", ""),
        ("--reset=1", ""),
        ("--require-idempotency-key=TRUE", ""),
        ("--idempotency-retention", "0s"),
        ("--idempotency-retention", "91d"),
        ("--max-attempts", "1001"),
        ("--max-attempts", "five"),
        ("--max-attempts", "+5"),
        ("--max-concentration", "0"),
        ("--max-concentration", "1000001"),
        ("--tokens", ""),
        ("--log-format", "xml"),
        ("--log-level", "loud"),
        ("--segment-size", "65535B"),
        ("--segment-size", "5GiB"),
        ("--segment-size", "64MB"),
        ("--nodes", ""),
        ("--nodes", ","),
        ("--nodes", "a:5000"),
        ("--nodes", "ftp://a:5000"),
        ("--nodes", "http://"),
        ("--nodes", "http://a:0"),
        ("--nodes", "http://a:65536"),
        ("--nodes", "http://a?x=y"),
        ("--nodes", "http://a/#f"),
        ("--nodes", "http://user@a"),
        ("--nodes", "http://a b"),
        ("--nodes", "http://a,,http://b"),
        ("--nodes", "http://a,http://b,"),
        ("--nodes", "http://a,http://b,http://a"),
        ("--node-deadline", "49ms"),
        ("--node-deadline", "61s"),
        ("--node-deadline", "5"),
        ("--heal-every", "99ms"),
        ("--heal-every", "25h"),
        ("--flow", ""),
        ("--flow", "release"),
        ("--flow", "release,seal"),
        ("--flow", "seal,seal"),
        ("--flow", "release,release"),
        ("--flow", "seal,release,seal"),
        ("--flow", "seal,"),
        ("--flow", "none,seal"),
        ("--snapshot-ratio", "0.09"),
        ("--snapshot-ratio", "101"),
        ("--snapshot-ratio", "1.123"),
        ("--snapshot-ratio", "1e2"),
    ];
    for (flag, value) in wrong {
        let arguments = if flag.contains('=') { vec![flag] } else { vec![flag, value] };
        let name = flag.split('=').next().expect("split gives at least one");
        assert_has(&Setup::new().flags(&arguments).refusal(), &[name]);
    }
}

#[test]
fn bounds_themselves_are_taken() {
    let least = ["--max-attempts=1", "--max-concentration=1", "--segment-size=64KiB"];
    Setup::new().flags(&least).flags(&["--idempotency-retention=1ms"]).shown();
    Setup::new().flags(&["--node-deadline=50ms", "--heal-every=100ms"]).shown();
    Setup::new().flags(&["--node-deadline=60s", "--heal-every=1d"]).shown();
    let most = ["--max-attempts=1000", "--max-concentration=1000000", "--segment-size=4GiB"];
    Setup::new().flags(&most).flags(&["--idempotency-retention=90d"]).shown();
}

#[test]
fn bad_value_is_found_even_where_a_later_layer_overrides_it() {
    let setup = Setup::new().file("max_attempts = 0\n").flags(&["--max-attempts", "3"]);
    assert_has(&setup.refusal(), &[":1: max_attempts: `0`"]);
}

#[test]
fn unknown_key_is_refused_with_line_and_what_was_meant() {
    let slip = Setup::new().file("listen = '127.0.0.1:1'\nmax-atempts = 5\n").refusal();
    assert_has(&slip, &["sillage.toml:2: unknown key `max-atempts`", "`max_attempts`?"]);
    let table = Setup::new().file("[http]\nlisten = '127.0.0.1:1'\n").refusal();
    assert_has(&table, &["sillage.toml:1: unknown key `http`", "the keys are data, listen"]);
}

#[test]
fn file_that_is_not_toml_missing_or_oddly_typed_is_refused() {
    let syntax = Setup::new().file("max_attempts = 5\nlisten =\n").refusal();
    assert_has(&syntax, &["sillage.toml:2: "]);
    let twice = Setup::new().file("max_attempts = 5\nmax_attempts = 5\n").refusal();
    assert_has(&twice, &["sillage.toml:2: "]);
    let missing = Setup::new().flags(&["--config", "nowhere.toml"]).refusal();
    assert_has(&missing, &["nowhere.toml: ", "No such file"]);
    for odd in ["[5]", "{ a = 5 }", "2026-11-21", "0x10"] {
        let refusal = Setup::new().file(&format!("max_attempts = {odd}\n")).refusal();
        assert_has(&refusal, &[":1: max_attempts: is not a string, a decimal number or a boolean"]);
    }
    assert_has(&Setup::new().file("max_attempts = 5.0\n").refusal(), &[":1: max_attempts: `5.0`"]);
    for ratio in ["0.7", "\"0.7\"", "2"] {
        let shown = Setup::new().file(&format!("snapshot_ratio = {ratio}\n")).shown();
        let digits = ratio.trim_matches('"');
        assert_has(&shown, &[&format!("snapshot_ratio = \"{digits}\"  # ")]);
    }
    let long = Setup::new().file(&"#".repeat((1 << 20) + 1)).refusal();
    assert_has(&long, &["longer than 1048576 bytes"]);
}

#[test]
fn unknown_flag_is_refused_with_a_suggestion() {
    let output = Setup::new().flags(&["--max-atempts", "5"]).run("serve");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    assert_has(&text, &["unexpected argument '--max-atempts'", "'--max-attempts'"]);
    for later in ["--seal-url=http://a", "--tls-cert=a", "--allow-reset"] {
        let output = Setup::new().flags(&[later]).run("serve");
        assert_eq!(output.status.code(), Some(2), "{later} is not in this release");
    }
}

#[test]
fn without_tokens_only_loopback_is_listened_on() {
    for open in ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:8080", "[::ffff:192.0.2.1]:80"] {
        let refusal = Setup::new().flags(&["--listen", open]).refusal();
        assert_has(&refusal, &["--listen: ", "no tokens are set", "--tokens FILE"]);
    }
    for loopback in ["127.0.0.1:0", "127.8.9.1:1", "[::1]:8080", "[::ffff:127.0.0.1]:80"] {
        Setup::new().flags(&["--listen", loopback]).shown();
    }
    Setup::new().flags(&["--listen", "0.0.0.0:8080", "--tokens", "tokens"]).shown();
}

#[test]
fn help_lists_every_setting_with_flag_and_variable() {
    let output = Setup::new().run("config");
    let shown = String::from_utf8(output.stdout).expect("UTF-8");
    let help = Setup::new().flags(&["--help"]).run("serve");
    assert_eq!(help.status.code(), Some(0));
    let help = String::from_utf8(help.stdout).expect("UTF-8");
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let keys = shown.lines().map(|line| line.trim_start_matches("# "));
    let keys: Vec<&str> = keys.filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(keys.len(), 31);
    for key in keys {
        let flag = format!("--{}", key.replace('_', "-"));
        assert_has(&help, &[&flag, &format!("[env: SILLAGE_{}]", key.to_uppercase())]);
    }
}
