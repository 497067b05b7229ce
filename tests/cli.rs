//! The command line without a server, and the life of `serve` from start to end.

use std::fs;
use std::io::{BufRead, BufReader, Read as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// The program with these arguments and no setting from the environment.
fn sillage(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sillage"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SILLAGE_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    sillage(arguments).output().expect("the program runs")
}

/// The one line on stderr with which the command ends, after checking its exit code.
#[track_caller]
fn refusal(arguments: &[&str], code: i32) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(text.lines().count(), 1, "one line: {text}");
    text
}

/// A running `serve`; killed if the test forgets to end it.
struct Service {
    child: Child,
    events: BufReader<std::process::ChildStderr>,
    /// The event `listening`.
    listening: Value,
}

impl Service {
    #[track_caller]
    fn start(arguments: &[&str]) -> Service {
        let mut command = sillage(&["serve", "--listen", "127.0.0.1:0", "--log-format", "json"]);
        let mut child = command
            .args(["--segment-size", "1MiB"])
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let events = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let mut service = Service { child, events, listening: Value::Null };
        service.listening = service.next_event("listening");
        service
    }

    #[track_caller]
    fn next_event(&mut self, message: &str) -> Value {
        let mut line = String::new();
        loop {
            line.clear();
            let bytes = self.events.read_line(&mut line).expect("UTF-8");
            assert!(bytes > 0, "ended before the event {message}");
            let event: Value = serde_json::from_str(&line).expect("one JSON object per line");
            if event["message"] == message {
                return event;
            }
        }
    }

    fn data(&self) -> PathBuf {
        PathBuf::from(self.listening["data"].as_str().expect("text"))
    }

    /// Sends the signal, waits for the end and gives the events until then.
    fn end(mut self, signal: Signal) -> (ExitStatus, String) {
        kill_process(Pid::from_child(&self.child), signal).expect("our own child");
        let mut rest = String::new();
        self.events.read_to_string(&mut rest).expect("UTF-8");
        (self.child.wait().expect("our own child"), rest)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended already.
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

struct Directory(TempDir);

impl Directory {
    fn new() -> Directory {
        Directory(tempfile::tempdir().expect("a temporary directory"))
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("a plain path").to_owned()
    }

    /// Files as they stand in a store, besides one that is not the store's.
    fn with_remains_of_a_store(self) -> Directory {
        let store = PathBuf::from(self.path("data"));
        for directory in ["log", "snapshots", "quarantine/1"] {
            fs::create_dir_all(store.join(directory)).expect("the directory is ours");
        }
        for file in ["SUPER.a", "SUPER.b", "WATERMARK", "log/00000000000000000001.seg"] {
            fs::write(store.join(file), "x").expect("the directory is ours");
        }
        for file in ["quarantine/1/copy", "snapshots/1.snap", "notes.txt"] {
            fs::write(store.join(file), "x").expect("the directory is ours");
        }
        self
    }
}

fn names(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("the directory is there");
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let mut names: Vec<String> = entries.map(|entry| name(entry.expect("readable"))).collect();
    names.sort();
    names
}

#[test]
fn help_of_every_command_has_an_example() {
    let help = String::from_utf8(run(&["--help"]).stdout).expect("UTF-8");
    assert!(help.contains("Try it:"), "{help}");
    let commands = [
        "serve", "config", "check", "inspect", "repair", "reset", "submit", "list", "get", "lease",
        "ack", "nack",
    ];
    for command in commands {
        assert!(help.contains(&format!("\n  {command} ")), "{command} in {help}");
        let output = run(&[command, "--help"]);
        assert_eq!(output.status.code(), Some(0));
        let help = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(help.contains(&format!("  sillage {command} ")), "{command}: {help}");
    }
}

#[test]
fn wrong_usage_exits_2_and_helps() {
    for arguments in [&[][..], &["serv"], &["get"], &["inspect", "x"], &["repair", "x"]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{output:?}");
    }
    let slip = String::from_utf8(run(&["serv"]).stderr).expect("UTF-8");
    assert!(slip.contains("'serve'"), "{slip}");
    for accepted in [&["--accept-loss", "9..3"][..], &["--accept-loss=1..2", "--accept-tail"]] {
        let output = sillage(&["repair", "x"]).args(accepted).output().expect("the program runs");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
    let version = run(&["--version"]);
    assert_eq!(version.status.code(), Some(0));
    let expected = format!("sillage {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(version.stdout, expected.into_bytes());
}

#[test]
fn busy_port_exits_74_before_anything_is_touched() {
    let directory = Directory::new();
    let data = directory.path("data");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let line = refusal(&["serve", "--listen", &address, "--data", &data], 74);
    assert!(line.contains(&address) && line.contains("in use"), "{line}");
    assert!(!Path::new(&data).exists());
}

#[test]
fn unwritable_directory_exits_74_and_is_named() {
    let directory = Directory::new();
    let file = directory.path("file");
    fs::write(&file, "no directory").expect("the directory is ours");
    let data = format!("{file}/data");
    let line = refusal(&["serve", "--listen", "127.0.0.1:0", "--data", &data], 74);
    assert!(line.contains(&format!("cannot create directory {data}: ")), "{line}");
}

#[test]
fn unreadable_file_is_named_with_what_it_was_to_be() {
    let directory = Directory::new();
    let missing = directory.path("missing");
    let said = |code, arguments: &[&str]| {
        let line = refusal(&[arguments, &[&missing]].concat(), code);
        line.split(&missing).next().expect("a first part").to_owned()
    };
    let serve = ["serve", "--listen", "127.0.0.1:0"];
    let config = said(2, &[&serve[..], &["--config"]].concat());
    assert_eq!(config, "sillage: cannot read the configuration ");
    let tokens = said(2, &[&serve[..], &["--tokens"]].concat());
    assert_eq!(tokens, "sillage: cannot read the tokens file ");
    assert_eq!(said(74, &["submit"]), "sillage: cannot read ");
}

#[test]
fn check_makes_no_file_in_a_copy_of_a_store() {
    let directory = Directory::new();
    let data = directory.path("data");
    let (status, events) = Service::start(&["--data", &data]).end(Signal::TERM);
    assert_eq!(status.code(), Some(0), "{events}");
    fs::remove_file(format!("{data}/LOCK")).expect("the directory is ours");
    let before = names(&data);
    assert_eq!(run(&["check", &data]).status.code(), Some(0));
    assert_eq!(names(&data), before);
}

#[test]
fn repair_says_what_it_did_and_leaves_a_sound_store_alone() {
    let directory = Directory::new();
    let data = directory.path("data");
    let (status, events) = Service::start(&["--data", &data]).end(Signal::TERM);
    assert_eq!(status.code(), Some(0), "{events}");
    let repaired = |arguments: &[&str]| {
        let output = run(&[&["repair", &data], arguments].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let segments = names(&format!("{data}/log"));
    for acceptance in [&["--accept-tail"][..], &["--accept-loss", "1..9"]] {
        let said = repaired(acceptance);
        assert!(said.contains("nothing was changed"), "{said}");
        assert_eq!(names(&format!("{data}/log")), segments);
    }
    for copy in ["SUPER.a", "SUPER.b"] {
        fs::remove_file(format!("{data}/{copy}")).expect("the directory is ours");
    }
    assert_eq!(
        repaired(&["--accept-loss", "1..9"]),
        format!("{data} opens again and lost nothing\n")
    );
    let segment = format!("{data}/log/00000000000000000001.seg");
    let mut bytes = fs::read(&segment).expect("the segment is there");
    bytes[9] ^= 1;
    fs::write(&segment, bytes).expect("the directory is ours");
    let said = repaired(&["--accept-loss", "1..9"]);
    assert_eq!(
        said,
        format!("{data} opens again and lost nothing; what was there is in quarantine/\n")
    );
    assert_eq!(run(&["check", &data]).status.code(), Some(0));
}

#[test]
fn repair_takes_one_acceptance_at_most() {
    let both = ["repair", "x", "--accept-loss", "1..2", "--accept-tail"];
    let refused = String::from_utf8(run(&both).stderr).expect("UTF-8");
    for choice in ["--accept-loss <A..B>", "--accept-tail"] {
        assert!(refused.contains(choice), "{choice} in {refused}");
    }
}

#[test]
fn directory_in_use_exits_75_and_names_the_holder() {
    let directory = Directory::new();
    let data = directory.path("data");
    let service = Service::start(&["--data", &data]);
    let pid = service.child.id().to_string();
    let line = refusal(&["serve", "--listen", "127.0.0.1:0", "--data", &data], 75);
    assert!(line.contains(&pid) && line.contains(&data), "{pid} in {line}");
    let (status, _) = service.end(Signal::TERM);
    assert_eq!(status.code(), Some(0));
    let (status, _) = Service::start(&["--data", &data]).end(Signal::TERM);
    assert_eq!(status.code(), Some(0), "free again");
}

#[test]
fn start_prints_address_store_and_what_to_try() {
    let directory = Directory::new();
    let data = directory.path("data");
    let service = Service::start(&["--data", &data]);
    let event = &service.listening;
    assert_eq!(event["level"], "INFO");
    assert_eq!(event["data"].as_str(), Some(data.as_str()));
    assert_eq!(event["formulas"], 0);
    assert!(event["lsn"].is_u64() && event["epoch"].is_u64(), "{event}");
    assert!(event["recovery_ms"].is_f64(), "a number, not text: {event}");
    let address = event["address"].as_str().expect("text");
    assert!(address.starts_with("127.0.0.1:") && !address.ends_with(":0"), "{event}");
    assert_eq!(event["try"], format!("curl http://{address}/formulas"));
}

#[test]
fn both_signals_drain_and_end_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let directory = Directory::new();
        let (status, events) = Service::start(&["--data", &directory.path("data")]).end(signal);
        assert_eq!(status.code(), Some(0), "{events}");
        let place = |message: &str| events.find(&format!("\"message\":\"{message}"));
        assert!(place("draining").is_some(), "{events}");
        assert!(place("draining") < place("closed"), "{events}");
    }
}

#[test]
fn ephemeral_store_is_gone_at_the_end() {
    let directory = Directory::new();
    let data = directory.path("data");
    let service = Service::start(&["--ephemeral", "--data", &data]);
    let temporary = service.data();
    assert!(temporary.is_dir());
    let (status, events) = service.end(Signal::TERM);
    assert_eq!(status.code(), Some(0), "{events}");
    assert!(!temporary.exists(), "{}", temporary.display());
    assert!(!Path::new(&data).exists(), "--ephemeral leaves --data alone");
}

#[test]
fn pretty_events_are_text_without_colour_in_a_pipe() {
    let directory = Directory::new();
    let data = directory.path("data");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let mut command = sillage(&["serve", "--data", &data, "--listen", "127.0.0.1:0"]);
    command.args(["--log-format", "pretty"]).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program runs");
    let mut line = String::new();
    let mut events = BufReader::new(child.stderr.take().expect("stderr is piped"));
    while !line.contains("listening") {
        line.clear();
        assert!(events.read_line(&mut line).expect("UTF-8") > 0, "ended before it listened");
    }
    assert!(line.contains(" INFO ") && !line.contains('\u{1b}'), "{line:?}");
    assert!(!line.contains(&address) && line.contains("curl http://127.0.0.1:"), "{line:?}");
    child.kill().expect("our own child");
    child.wait().expect("our own child");
}

#[test]
fn reset_asks_for_yes_and_changes_nothing_before() {
    let directory = Directory::new().with_remains_of_a_store();
    let data = directory.path("data");
    let before = names(&data);
    let line = refusal(&["reset", "--data", &data], 2);
    assert!(line.contains("--yes") && line.contains(&data), "{line}");
    assert_eq!(names(&data), before);
}

#[test]
fn reset_removes_the_store_and_nothing_else() {
    let directory = Directory::new().with_remains_of_a_store();
    let data = directory.path("data");
    let output = run(&["reset", "--data", &data, "--yes"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(names(&data), ["LOCK", "notes.txt"]);
}

#[test]
fn reset_that_was_cut_short_can_be_finished() {
    for left in ["SUPER.b", "log/00000000000000000001.seg"] {
        let directory = Directory::new();
        let data = PathBuf::from(directory.path("data"));
        fs::create_dir_all(data.join("log")).expect("the directory is ours");
        fs::write(data.join(left), "x").expect("the directory is ours");
        let data = data.to_str().expect("a plain path");
        assert_eq!(run(&["reset", "--data", data, "--yes"]).status.code(), Some(0), "{left}");
        assert_eq!(names(data), ["LOCK"]);
    }
}

#[test]
fn reset_leaves_what_is_no_store_alone() {
    let directory = Directory::new();
    let other = directory.path("home");
    fs::create_dir_all(format!("{other}/log")).expect("the directory is ours");
    fs::write(format!("{other}/log/thesis.txt"), "x").expect("the directory is ours");
    for arguments in [
        &["reset", "--data", &other, "--yes"][..],
        &["serve", "--data", &other, "--reset", "--listen", "127.0.0.1:0"],
    ] {
        let line = refusal(arguments, 2);
        assert!(line.contains("not a Sillage store"), "{line}");
        assert!(Path::new(&other).join("log/thesis.txt").exists());
    }
    let missing = directory.path("missing");
    assert!(refusal(&["reset", "--data", &missing, "--yes"], 2).contains(&missing));
    assert!(!Path::new(&missing).exists());
}

#[test]
fn reset_of_a_store_in_use_is_refused() {
    let directory = Directory::new();
    let data = directory.path("data");
    let service = Service::start(&["--data", &data]);
    let log = Path::new(&data).join("log");
    fs::create_dir_all(&log).expect("the directory is ours");
    let beside = log.join("of-another-reign.tmp");
    fs::write(&beside, "x").expect("the directory is ours");
    let line = refusal(&["reset", "--data", &data, "--yes"], 75);
    assert!(line.contains(&service.child.id().to_string()), "{line}");
    assert!(beside.exists());
}

#[test]
fn serve_with_reset_starts_empty_also_where_nothing_was() {
    let directory = Directory::new().with_remains_of_a_store();
    let data = directory.path("data");
    let service = Service::start(&["--reset", "--data", &data]);
    assert_eq!(service.listening["formulas"], 0);
    assert!(Path::new(&data).join("notes.txt").exists());
    let fresh = directory.path("fresh");
    assert_eq!(Service::start(&["--reset", "--data", &fresh]).listening["formulas"], 0);
}

#[test]
fn closed_pipe_is_no_failure() {
    let mut command = sillage(&["config"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("our own child");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn samples_are_what_their_names_say() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/samples");
    let text = |name: &str| fs::read_to_string(samples.join(name)).expect("the sample is there");
    let lines = text("formulas.jsonl");
    let formulas: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("a formula")).collect();
    assert!(formulas.len() >= 24);
    let materials = |name: &str| {
        let formula: Value = serde_json::from_str(&text(name)).expect("JSON");
        let mut materials: Vec<String> =
            formula["materials"].as_array().expect("a list").iter().map(Value::to_string).collect();
        materials.sort();
        materials
    };
    assert_eq!(materials("summer-breeze.json"), materials("summer-delight.json"));
    let invalid: Value = serde_json::from_str(&text("invalid.json")).expect("JSON");
    assert_eq!(invalid["materials"][0]["concentration"], "high");
    assert_eq!(invalid["materials"][1]["concentration"], -5);
}
