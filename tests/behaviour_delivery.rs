//! Rows E3, E8 and E14 of the behaviours, and the real formulas: what an operator meets first.

mod common;

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::{
    Client, Formula, Material, Server, Store, body, lease, list_all, numbered, queue_count, settle,
    shared_data, sillage,
};
use serde::Deserialize;
use serde_json::json;

/// Make-ups with their ids, computed by another implementation of canon 1 (Python's `hashlib`,
/// `unicodedata` and `decimal`). They may never change: ids are stored, sent and compared.
const FINGERPRINTS: &[(&[(&str, &str)], &str)] = &[
    (
        &[("Bergamot Oil", "15.5"), ("Lavender", "10"), ("Musk", "2.25")],
        "d9a837f5ffc6df0fdfa0f509f770fa45c4b3682aa509a76f2a03ccc8e428356a",
    ),
    (
        &[("Iso E Super®", "0.000000000000000000000000000001"), ("Ambrox", "1e2")],
        "d401ef1f2860c6bf2cb5952233a7990039f666245500ec7b30fc154d6772bae0",
    ),
    (
        &[("Rosé", "1"), ("Straße", "0.10"), ("Nothing", "0")],
        "970347a53d92ea4e512335dcfdc1469c4e796081b5e7fa22aa337b0a5d56f251",
    ),
    (
        &[("(−)-Guaiol", "3.50"), ("l’Orange", "0.3"), ("ﬁne ΣΟΦΟΣ", "99.99999999999999999999")],
        "92724d4c7f74ab2ebbd85b2e84aeb5ea1e00e889d6a7c1139b3b3ad90f096b39",
    ),
];

#[test]
fn e03_every_curl_example_of_the_readme_works() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(readme).expect("there is a README");
    let examples = curl_examples(&readme);
    assert!(examples.len() >= 3, "at least valid, missing key and a duplicate pair");
    if Command::new("curl").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "the full check needs curl");
        eprintln!("skipped: curl is not installed");
        return;
    }
    let store = Store::new();
    let server = store.serve();
    for (number, statuses) in run_examples(&store, server.address(), &examples) {
        let example = &examples[number];
        assert_eq!(statuses, example.statuses, "this example answers otherwise:\n{}", example.text);
    }
}

#[test]
fn the_demonstration_of_kill_9_in_the_readme_ends_as_it_says() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(readme).expect("there is a README");
    if Command::new("curl").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "the full check needs curl");
        eprintln!("skipped: curl is not installed");
        return;
    }
    let demonstration = readme.split("## Kill it").nth(1).expect("a demonstration");
    let lines = demonstration.lines().filter_map(|line| line.strip_prefix("$ "));
    // Its first line builds the program. Fewer formulas do here, and instead of a second it
    // waits until some of them are stored.
    let script = lines.skip(1).collect::<Vec<_>>().join("\n");
    let store = Store::new();
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("a bound address").to_string();
    drop(free);
    let begun =
        "until curl -s http://127.0.0.1:8080/queues/formulas | grep -q 'y\":[1-9]'; do :; done";
    let script = script
        .replace("sleep 1", begun)
        .replace("500000", "20000")
        .replace("127.0.0.1:8080", &address)
        .replace("/tmp/sillage-demo", &store.data().to_string_lossy())
        .replace("/tmp/load.jsonl", &store.beside("load.jsonl").to_string_lossy());
    let mut shell = Command::new("sh");
    shell.args(["-u", "-c", &script]).env("SILLAGE_LISTEN", &address);
    shell.env("SILLAGE_URL", format!("http://{address}"));
    let program = Path::new(env!("CARGO_BIN_EXE_sillage")).parent().expect("in a directory");
    let path = std::env::var("PATH").expect("a path");
    let output = shell.env("PATH", format!("{}:{path}", program.display())).output();
    let output = output.expect("a shell");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let expected = ["0 new, 20000 duplicate", "\"ready\":20000,", "20000 formulas, 20000 messages"];
    for expected in expected {
        assert!(said.contains(expected), "{expected} in {output:?}");
    }
}

#[test]
fn the_demonstration_of_releases_in_the_readme_ends_as_it_says() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(readme).expect("there is a README");
    if Command::new("curl").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "the full check needs curl");
        eprintln!("skipped: curl is not installed");
        return;
    }
    let demonstration = readme.split("## Releases").nth(1).expect("a demonstration");
    let block = demonstration.split("```").nth(1).expect("it has lines to run");
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("a bound address").to_string();
    let first_node = free_ports_in_a_row(3);
    drop(free);
    let mut script = block.trim_start_matches("console").replace("\n$ ", "\n");
    // All are up before the first command that needs them.
    let up = "until curl -sf http://@server/readyz && curl -sf http://127.0.0.1:5002/stats; \
              do :; done > /dev/null";
    let first_use = "\nsillage group create lavender";
    script = script.replace(first_use, &format!("\n{up}{first_use}"));
    // In two steps: a free port may begin with the digits of one that is yet to be replaced.
    for node in 0..3 {
        script = script.replace(&format!("127.0.0.1:500{node}"), &format!("@node{node}"));
    }
    for node in 0..3 {
        let address = format!("127.0.0.1:{}", first_node + node);
        script = script.replace(&format!("@node{node}"), &address);
    }
    let script = script.replace("@server", &address);
    let mut shell = Command::new("sh");
    shell.args(["-u", "-c", &script]).env("SILLAGE_LISTEN", &address);
    shell.env("SILLAGE_URL", format!("http://{address}"));
    let program = Path::new(env!("CARGO_BIN_EXE_sillage")).parent().expect("in a directory");
    let path = std::env::var("PATH").expect("a path");
    let output = shell.env("PATH", format!("{}:{path}", program.display())).output();
    let output = output.expect("a shell");
    let said = String::from_utf8_lossy(&output.stdout);
    let refusing = format!("rolled_back: http://127.0.0.1:{}", first_node + 1);
    let expected = ["create lavender\n", "\nsucceeded\n", &refusing, "\non no node\n"];
    for expected in expected.into_iter().chain(["\"agree\":true", "breaker"]) {
        assert!(said.contains(expected), "{expected} in {output:?}");
    }
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

/// The first of so many ports in a row that nobody listens on.
fn free_ports_in_a_row(count: u16) -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = first.local_addr().expect("a bound address").port();
        let is_free = |further: u16| {
            let port = port.checked_add(further);
            port.is_some_and(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        };
        if (1..count).all(is_free) {
            return port;
        }
    }
}

#[test]
fn e08_a_busy_port_is_one_clear_line_and_exit_74() {
    let store = Store::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("a bound address").to_string();
    let refused = store.try_serve_at(&address).expect_err("the port is taken");
    assert_eq!(refused.code, Some(74), "{refused:?}");
    assert_eq!(refused.stderr.len(), 1, "one line: {refused:?}");
    assert!(refused.stderr[0].contains(&address), "it names the address: {refused:?}");
    assert!(!store.data().join("log").exists(), "nothing else was touched");
}

#[test]
fn e08_a_directory_in_use_is_one_clear_line_and_exit_75() {
    let store = Store::new();
    let server = store.serve();
    let refused = store.try_serve().expect_err("the directory is locked");
    assert_eq!(refused.code, Some(75), "{refused:?}");
    assert_eq!(refused.stderr.len(), 1, "one line: {refused:?}");
    let pid = server.pid().as_raw_nonzero().to_string();
    assert!(refused.stderr[0].contains(&pid), "it names the holder: {refused:?}");
    server.client().post("/formulas", numbered(1)).expect(201);
    server.kill();
    store.serve();
}

#[test]
fn e08_a_server_starts_serves_drains_and_ends_with_0() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    client.get("/livez").expect(200);
    let metrics = client.get("/metrics").expect(200);
    assert!(metrics.text().contains("sillage_"), "{}", metrics.text());
    client.post("/formulas", numbered(1)).expect(201);
    assert_eq!(server.terminate().code, Some(0));
}

#[test]
fn e14_ids_are_those_of_canon_1_for_ever() {
    let store = Store::new();
    let server = store.serve();
    for (materials, id) in FINGERPRINTS {
        let created = server.client().post("/formulas", body("Fixture", materials)).expect(201);
        let formula: Formula = created.parse();
        assert_eq!(formula.id, *id, "{materials:?}");
        assert_eq!(formula.lines(), *materials);
    }
}

#[test]
fn real_formulas_are_each_accepted_once_and_announced_once() {
    let Some(file) = shared_data("formulas-real.jsonl") else { return };
    let sent = std::fs::read_to_string(&file).expect("the file can be read");
    let sent: Vec<Sent> =
        sent.lines().map(|line| serde_json::from_str(line).expect("a formula")).collect();
    assert_eq!(sent.len(), 796);
    let store = Store::new();
    let server = store.serve();
    let first = submit(&server, &file);
    assert_eq!(first.status.code(), Some(0), "{first:?}");
    assert_eq!(count_of(&first, "new"), Some(796), "{first:?}");
    let second = submit(&server, &file);
    assert_eq!(second.status.code(), Some(0), "{second:?}");
    assert_eq!(count_of(&second, "duplicate"), Some(796), "{second:?}");

    let mut client = server.client();
    let stored = list_all(&mut client);
    assert_eq!(stored.len(), sent.len());
    for (stored, sent) in stored.iter().zip(&sent) {
        assert_eq!(stored.name, sent.name.trim());
        assert_eq!(stored.lines(), sent.lines(), "{}: digits as sent", sent.name);
    }
    assert_eq!(drain(&mut client), stored.iter().map(|f| f.seq).collect::<BTreeSet<_>>());
    server.kill();
    let server = store.serve();
    assert_eq!(list_all(&mut server.client()).len(), 796);
    assert_eq!(queue_count(&mut server.client(), "ready"), 0);
}

#[derive(Deserialize)]
struct Sent {
    name: String,
    materials: Vec<Material>,
}

impl Sent {
    fn lines(&self) -> Vec<(&str, &str)> {
        self.materials.iter().map(|m| (m.name.trim(), m.concentration.get())).collect()
    }
}

fn submit(server: &Server, file: &Path) -> Output {
    let url = format!("http://{}", server.address());
    let mut command = sillage(["submit", "--url", &url]);
    command.arg(file).stdin(Stdio::null()).output().expect("the program can be started")
}

/// The number that stands beside `word` in a summary, such as `796 new` or `new: 796`.
fn count_of(output: &Output, word: &str) -> Option<u64> {
    let said = [&output.stdout[..], b"\n", &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    let words: Vec<&str> =
        said.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
    let at = words.iter().position(|found| found.trim_end_matches('s') == word)?;
    let beside = [at.checked_sub(1), Some(at + 1)].into_iter().flatten();
    beside.filter_map(|at| words.get(at)?.parse().ok()).next()
}

/// Leases and acks everything; the seqs of what was announced, each once.
fn drain(client: &mut Client) -> BTreeSet<u64> {
    let mut announced = BTreeSet::new();
    loop {
        let messages = lease(client, 100, 600.0);
        if messages.is_empty() {
            return announced;
        }
        let receipts: Vec<&str> = messages.iter().map(|m| m.receipt.as_str()).collect();
        settle(client, "ack", &receipts, &json!({})).expect(200);
        for message in &messages {
            assert_eq!(message.kind, "formula.accepted");
            assert!(announced.insert(message.formula.seq), "announced twice: {message:?}");
        }
    }
}

/// One fenced block of the README that calls curl.
#[derive(Debug)]
struct Example {
    text: String,
    /// The statuses its comments promise, in order: lines such as `# 201`.
    statuses: Vec<String>,
}

/// The blocks fenced as `console` or `sh` whose first line calls curl.
fn curl_examples(readme: &str) -> Vec<Example> {
    let mut examples = Vec::new();
    let mut lines = readme.lines();
    while let Some(line) = lines.next() {
        if !matches!(line.trim(), "```console" | "```sh") {
            continue;
        }
        let block: Vec<&str> = lines.by_ref().take_while(|line| line.trim() != "```").collect();
        if block.first().is_some_and(|line| line.starts_with("curl ") || line.contains("$(curl ")) {
            let statuses = block.iter().filter_map(|line| promised_status(line)).collect();
            examples.push(Example { text: block.join("\n"), statuses });
        }
    }
    examples
}

fn promised_status(line: &str) -> Option<String> {
    let status = line.strip_prefix("# ")?.get(..3)?;
    status.bytes().all(|byte| byte.is_ascii_digit()).then(|| status.to_owned())
}

/// Runs all examples in one shell, so that a later one may use what an earlier one found, and
/// gives the statuses that curl met in each. Curl reports them because its configuration says so.
fn run_examples(
    store: &Store,
    address: SocketAddr,
    examples: &[Example],
) -> Vec<(usize, Vec<String>)> {
    let home = store.beside("curl-home");
    std::fs::create_dir(&home).expect("a directory can be made");
    let report = "silent\nwrite-out = \"%{stderr}\\nstatus %{http_code}\\n\"\n";
    std::fs::write(home.join(".curlrc"), report).expect("a file can be written");
    let mut script = String::new();
    for (number, example) in examples.iter().enumerate() {
        let text = example.text.replace("127.0.0.1:8080", &address.to_string());
        script.push_str(&format!("echo 'example {number}' >&2\n{text}\n"));
    }
    let mut shell = Command::new("sh");
    shell.args(["-u", "-c", &script]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = shell.env("CURL_HOME", &home).env("HOME", &home).output().expect("a shell");
    let mut met: Vec<(usize, Vec<String>)> = Vec::new();
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        if let Some(number) = line.strip_prefix("example ") {
            met.push((number.parse().expect("our own line"), Vec::new()));
        } else if let (Some(status), Some((_, statuses))) =
            (line.strip_prefix("status "), met.last_mut())
        {
            statuses.push(status.to_owned());
        }
    }
    assert_eq!(met.len(), examples.len(), "the examples stop early: {output:?}");
    met
}
