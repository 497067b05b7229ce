//! Sillage as a partner node: what others rely on who release to it, whatever comes late, twice,
//! or to a server that was killed.

mod common;

use std::collections::BTreeMap;

use common::{Call, Client, Server, Store, assert_problem, raw_exchange, run, seed, together};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const PATH: &str = "/v1/group/";
const CALLER: &str = "0123456789abcdef0123456789abcdef";

fn node() -> Store {
    Store::new().with(&["--serve-groups"])
}

fn body(group: &str) -> String {
    json!({ "groupId": group }).to_string()
}

fn create(group: &str) -> Call {
    Call::post(PATH, body(group))
}

fn delete(group: &str) -> Call {
    Call { method: "DELETE", ..create(group) }
}

/// The key of a call within a transaction of one caller.
fn key(transaction: u64, number: u32) -> String {
    format!("{CALLER}/{transaction}/0/{number}")
}

/// Every byte escaped that a path may not hold.
fn path_of(group: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    format!("{PATH}{}/", group.bytes().map(escape).collect::<String>())
}

#[track_caller]
fn is_there(client: &mut Client, group: &str) -> bool {
    let answer = client.get(&path_of(group));
    if answer.status == 404 {
        assert_eq!(assert_problem(&answer, 404)["type"], "/problems/unknown-group");
        return false;
    }
    assert_eq!(answer.expect(200).json(), json!({ "groupId": group }));
    true
}

/// All groups, by pages of `limit`.
fn listed(client: &mut Client, limit: usize) -> Vec<String> {
    let (mut names, mut target) = (Vec::new(), format!("{PATH}?limit={limit}"));
    loop {
        let page = client.get(&target).expect(200);
        let rows = page.json();
        let groups = rows["groups"].as_array().expect("a list");
        assert!(groups.len() <= limit);
        names.extend(groups.iter().map(|row| row["groupId"].as_str().expect("a name").to_owned()));
        let link = page.header("link").map(str::to_owned);
        assert_eq!(link.is_some(), !rows["next"].is_null());
        let Some(link) = link else { return names };
        let next = link.strip_prefix('<').and_then(|rest| rest.split_once('>'));
        target = next.expect("a link").0.to_owned();
    }
}

#[test]
fn a_group_is_created_once_and_deleted_once() {
    let store = node();
    let server = store.serve();
    let mut client = server.client();
    assert!(!is_there(&mut client, "g"));
    let made = client.send(&create("g")).expect(201);
    assert_eq!(made.json(), json!({ "groupId": "g" }));
    assert_eq!(made.header("location"), Some("/v1/group/g/"));
    let again = assert_problem(&client.send(&create("g")), 400);
    assert_eq!(again["type"], "/problems/group-exists");
    assert!(is_there(&mut client, "g"));
    assert_eq!(client.send(&Call::new("HEAD", path_of("g"))).expect(200).body, b"");
    assert_eq!(client.send(&delete("g")).expect(200).json(), json!({ "groupId": "g" }));
    let again = assert_problem(&client.send(&delete("g")), 404);
    assert_eq!(again["type"], "/problems/unknown-group");
    assert!(!is_there(&mut client, "g"));
    client.send(&create("g")).expect(201);
    let metrics = client.get("/metrics").expect(200);
    assert!(metrics.text().contains("node_group_create"));
}

#[test]
fn without_the_flag_there_is_no_such_path() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    for call in [create("g"), delete("g"), Call::get(PATH), Call::get(path_of("g"))] {
        let refused = assert_problem(&client.send(&call), 404);
        assert_eq!(refused["type"], "/problems/not-found");
    }
    assert_problem(&client.send(&Call::new("OPTIONS", PATH)), 404);
    assert!(!client.get("/").expect(200).text().contains("/v1/"));
    assert!(!client.get("/metrics").expect(200).text().contains("node_group"));
    // What was kept while a node was played is there when one is played again.
    drop((client, server));
    let store = store.with(&["--serve-groups"]);
    let server = store.serve();
    server.client().send(&create("g")).expect(201);
    let allowed = server.client().send(&Call::new("OPTIONS", PATH)).expect(204);
    assert_eq!(allowed.header("allow"), Some("POST, DELETE, GET, HEAD, OPTIONS"));
    assert!(server.client().get("/").expect(200).text().contains("/v1/group/{id}/"));
}

#[test]
fn any_name_is_found_again_under_its_path() {
    let store = node();
    let server = store.serve();
    let mut client = server.client();
    let long = "é".repeat(100);
    let names = [
        "a/b", "/", "//", "%", "%2F", "100 %", " ", "ü", "日本", "{id}", "...", "a?b#c", "a+b",
        "\\", "\"", "'", "&amp;", "<script>", "a;b=c", "..%2f", "null", "0", &long,
    ];
    for name in names {
        assert!(!is_there(&mut client, name), "{name}");
        let made = client.send(&create(name)).expect(201);
        let location = made.header("location").expect("it says where").to_owned();
        assert_eq!(client.get(&location).expect(200).json(), json!({ "groupId": name }));
        assert!(is_there(&mut client, name), "{name}");
        assert_problem(&client.send(&create(name)), 400);
    }
    let mut sorted = names.map(str::to_owned).to_vec();
    sorted.sort_unstable();
    assert_eq!(listed(&mut client, 1000), sorted);
    for limit in [1, 2, 7, names.len()] {
        assert_eq!(listed(&mut client, limit), sorted, "by {limit}");
    }
    for name in names {
        client.send(&delete(name)).expect(200);
        assert!(!is_there(&mut client, name), "{name}");
    }
    assert_eq!(listed(&mut client, 1), [""; 0]);
}

#[test]
fn paths_that_name_no_group_are_not_found() {
    let store = node();
    let server = store.serve();
    let mut client = server.client();
    client.send(&create("g")).expect(201);
    for target in [
        "/v1/group/%00/",
        "/v1/group/%ff/",
        "/v1/group/g",
        "/v1/group",
        "/v1/group//",
        "/v1/group/g//",
        "/v1/group/g/g/",
        "/v1/group/./",
        "/v1/group/../",
        "/v1/group/%2e%2e/",
        "/V1/group/g/",
        "/v1/group/%",
        "/v1/group/g%0a/",
    ] {
        let answer = client.get(target);
        assert!(matches!(answer.status, 400 | 404), "{target}: {}", answer.status);
    }
    let beyond = "g".repeat(201);
    assert_problem(&client.get(&path_of(&beyond)), 404);
    for query in ["limit=0", "limit=1001", "limit=x", "after=", "after=%0a", "x=1", "after=.."] {
        let answer = client.get(&format!("{PATH}?{query}"));
        assert_eq!(assert_problem(&answer, 400)["type"], "/problems/invalid-query", "{query}");
    }
    assert_problem(&client.send(&Call { method: "PUT", ..create("g") }), 405);
    assert_problem(&client.send(&Call::new("DELETE", path_of("g"))), 405);
    assert!(is_there(&mut client, "g"));
}

#[test]
fn hostile_bodies_are_refused_with_all_their_faults() {
    let store = node();
    let server = store.serve();
    let mut client = server.client();
    let beyond = format!(r#"{{"groupId":"{}"}}"#, "g".repeat(201));
    let deep = "[".repeat(4000);
    for (body, kind) in [
        ("", "invalid-body"),
        ("{}", "invalid-body"),
        ("[]", "invalid-body"),
        ("null", "invalid-body"),
        ("\"g\"", "invalid-body"),
        (r#"{"groupId":null}"#, "invalid-body"),
        (r#"{"groupId":7}"#, "invalid-body"),
        (r#"{"groupId":["g"]}"#, "invalid-body"),
        (r#"{"groupId":""}"#, "invalid-body"),
        (r#"{"groupId":"."}"#, "invalid-body"),
        (r#"{"groupId":".."}"#, "invalid-body"),
        (r#"{"groupId":"a\u0000b"}"#, "invalid-body"),
        (r#"{"groupId":"a\nb"}"#, "invalid-body"),
        (r#"{"groupId":"\u0085"}"#, "invalid-body"),
        (r#"{"groupId":"g","groupId":"h"}"#, "invalid-body"),
        (r#"{"groupId":"g","x":1}"#, "invalid-body"),
        (r#"{"groupid":"g"}"#, "invalid-body"),
        (&beyond, "invalid-body"),
        (r#"{"groupId":"\ud800"}"#, "invalid-body"),
        (r#"{"groupId":"g"}{"groupId":"h"}"#, "malformed-body"),
        ("{\"groupId\":\"a\nb\"}", "malformed-body"),
        ("{", "malformed-body"),
        (&deep, "malformed-body"),
    ] {
        for method in ["POST", "DELETE"] {
            let call = Call { method, ..Call::post(PATH, body) };
            let refused = assert_problem(&client.send(&call.key(key(1, 9))), 400);
            assert_eq!(refused["type"], format!("/problems/{kind}"), "{method} {body}");
        }
    }
    let two = client.post(PATH, r#"{"groupid":"g","x":1}"#);
    let faults = assert_problem(&two, 400)["errors"].as_array().expect("faults").len();
    assert_eq!(faults, 3, "one is missing and two are unknown");
    let large = format!(r#"{{"groupId":"g"{}}}"#, " ".repeat(5000));
    assert_problem(&client.post(PATH, large), 413);
    let not_json = Call::post_as("text/plain", PATH, body("g"));
    assert_problem(&client.send(&not_json), 415);
    assert_problem(&client.send(&Call::new("DELETE", PATH)), 411);
    let not_utf8 = Call::post(PATH, b"{\"groupId\":\"\xff\"}".to_vec());
    assert_problem(&client.send(&not_utf8), 400);
    let cut = b"POST /v1/group/ HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\
        Content-Length: 10\r\n\r\n{\"groupId\"";
    assert_eq!(raw_exchange(server.address(), cut).status, 400);
    // The number in the key was not spent on any of these.
    client.send(&create("g").key(key(1, 8))).expect(201);
}

#[test]
fn tokens_need_submit_to_change_and_read_to_look() {
    let store = node();
    let tokens = store.beside("tokens");
    let line = |name: &str, scopes: &str| {
        let hash: String = Sha256::digest(name).iter().map(|b| format!("{b:02x}")).collect();
        format!("{name} {hash} {scopes}\n")
    };
    std::fs::write(&tokens, [line("ann", "submit"), line("ben", "read")].concat()).unwrap();
    let store = store.with(&["--tokens", tokens.to_str().expect("a plain path")]);
    let server = store.serve();
    let mut client = server.client();
    let looks = [Call::get(PATH), Call::get(path_of("g"))];
    for call in [create("g"), delete("g")] {
        assert_problem(&client.send(&call), 401);
        assert_problem(&client.send(&call.token("ben")), 403);
    }
    client.send(&create("g").token("ann")).expect(201);
    for call in looks {
        assert_problem(&client.send(&call), 401);
        assert_problem(&client.send(&call.clone().token("ann")), 403);
        client.send(&call.token("ben")).expect(200);
    }
}

/// A server on the same store after the power was cut.
fn killed(store: &Store, server: Server) -> Server {
    server.kill();
    store.serve()
}

/// A server on the same store that rests on a snapshot.
fn snapshotted(store: &Store, server: Server) -> Server {
    server.client().send(&Call::new("POST", "/admin/snapshot")).expect(200);
    killed(store, server)
}

/// The answer, which must say that it was given before.
#[track_caller]
fn replayed(client: &mut Client, call: Call, status: u16) {
    let answer = client.send(&call).expect(status);
    assert_eq!(answer.header("idempotent-replayed"), Some("true"));
}

#[track_caller]
fn late(client: &mut Client, call: Call) {
    let refused = assert_problem(&client.send(&call), 409);
    assert_eq!(refused["type"], "/problems/stale-call");
}

#[test]
fn calls_that_come_late_or_twice_do_nothing_also_after_a_crash_and_a_snapshot() {
    for restart in [killed, snapshotted] {
        let store = node();
        let mut server = store.serve();
        let mut client = server.client();
        // Undone before it came, and before anybody had heard of the group.
        assert_problem(&client.send(&delete("a").key(key(5, 2))), 404);
        client.send(&create("b").key(key(5, 1))).expect(201);
        client.send(&create("c").key(key(5, 1))).expect(201);
        client.send(&delete("c").key(key(5, 2))).expect(200);
        client.send(&create("d")).expect(201);
        assert_problem(&client.send(&create("d").key(key(5, 2))), 400);
        for _ in 0..2 {
            server = restart(&store, server);
            client = server.client();
            late(&mut client, create("a").key(key(5, 1)));
            replayed(&mut client, delete("a").key(key(5, 2)), 404);
            replayed(&mut client, create("b").key(key(5, 1)), 201);
            late(&mut client, delete("b").key(key(4, 7)));
            late(&mut client, create("c").key(key(5, 1)));
            replayed(&mut client, delete("c").key(key(5, 2)), 200);
            late(&mut client, delete("d").key(key(5, 1)));
            replayed(&mut client, create("d").key(key(5, 2)), 400);
            let reused = assert_problem(&client.send(&delete("d").key(key(5, 2))), 422);
            assert_eq!(reused["type"], "/problems/idempotency-key-reused");
            assert_eq!(listed(&mut client, 9), ["b", "d"]);
        }
        client.send(&create("a").key(key(5, 3))).expect(201);
        client.send(&delete("b").key(key(6, 1))).expect(200);
        late(&mut client, create("b").key(key(5, 9)));
        server = restart(&store, server);
        assert_eq!(listed(&mut server.client(), 9), ["a", "d"]);
        late(&mut server.client(), create("b").key(key(5, 9)));
        drop(server.terminate());
        let checked = run(["check", store.data().to_str().expect("a plain path")]);
        assert!(checked.status.success(), "{checked:?}");
    }
}

#[test]
fn of_those_who_come_at_once_one_changes_it() {
    let store = node();
    let server = store.serve();
    let made = together(8, |caller| {
        let key = format!("{caller:032x}/5/0/1");
        server.client().send(&create("g").key(key)).status
    });
    assert_eq!(made.iter().filter(|status| **status == 201).count(), 1, "{made:?}");
    assert_eq!(made.iter().filter(|status| **status == 400).count(), 7, "{made:?}");
    let doubled = together(8, |_| server.client().send(&create("h").key(key(5, 1))));
    let firsts = doubled.iter().filter(|answer| answer.header("idempotent-replayed").is_none());
    assert_eq!(firsts.count(), 1);
    assert!(doubled.iter().all(|answer| answer.status == 201 && answer.json()["groupId"] == "h"));
}

/// What a caller's latest call for a group was, and what it was answered.
struct Heard {
    transaction: u64,
    number: u32,
    method: &'static str,
    status: u16,
}

/// What must be the case on a node, in so many words.
#[derive(Default)]
struct Model {
    groups: BTreeMap<String, bool>,
    heard: BTreeMap<String, Heard>,
}

impl Model {
    /// What a call must be answered, and whether for the second time.
    fn answer(&mut self, call: &Sent) -> (u16, bool) {
        let Sent { group, method, transaction, number } = call.clone();
        if let Some(heard) = self.heard.get(&group) {
            let (now, before) = ((transaction, number), (heard.transaction, heard.number));
            match now.cmp(&before) {
                std::cmp::Ordering::Less => return (409, false),
                std::cmp::Ordering::Equal if heard.method == method => {
                    return (heard.status, true);
                }
                std::cmp::Ordering::Equal => return (422, false),
                std::cmp::Ordering::Greater => {}
            }
        }
        let is_there = self.groups.entry(group.clone()).or_default();
        let status = match (method, *is_there) {
            ("POST", true) => 400,
            ("POST", false) => 201,
            (_, true) => 200,
            (_, false) => 404,
        };
        *is_there = method == "POST";
        self.heard.insert(group, Heard { transaction, number, method, status });
        (status, false)
    }
}

/// A call that was sent, and may arrive once more at any time.
#[derive(Clone)]
struct Sent {
    group: String,
    method: &'static str,
    transaction: u64,
    number: u32,
}

impl Sent {
    fn call(&self) -> Call {
        let call = create(&self.group).key(key(self.transaction, self.number));
        Call { method: self.method, ..call }
    }
}

#[track_caller]
fn deliver(client: &mut Client, model: &mut Model, sent: &Sent) {
    let answer = client.send(&sent.call());
    let is_replayed = answer.header("idempotent-replayed") == Some("true");
    let Sent { group, method, transaction, number } = sent;
    let told = format!("{method} {group} {transaction}/{number}");
    assert_eq!((answer.status, is_replayed), model.answer(sent), "{told}");
}

#[test]
fn a_node_that_is_killed_at_any_moment_is_as_it_said() {
    let mut random = fastrand::Rng::with_seed(seed());
    let store = node();
    let (mut server, mut model) = (store.serve(), Model::default());
    let (mut sent, mut transaction): (Vec<Sent>, u64) = (Vec::new(), 0);
    for _ in 0..12 {
        let mut client = server.client();
        for _ in 0..40 {
            transaction += 1;
            let group = format!("group {}", random.u8(..4));
            let way = if random.bool() { ["POST", "DELETE"] } else { ["DELETE", "POST"] };
            let steps = random.usize(1..=2);
            for (number, method) in (1..).zip(way).take(steps) {
                let call = Sent { group: group.clone(), method, transaction, number };
                // Lost on the way for now, or not.
                if random.u8(..4) > 0 {
                    deliver(&mut client, &mut model, &call);
                }
                sent.push(call);
            }
            deliver(&mut client, &mut model, &sent[random.usize(..sent.len())].clone());
        }
        // Killed while it is called: the call has happened or not, and its repetition tells.
        transaction += 1;
        let group = "group 0".to_owned();
        let last = Sent { group, method: "POST", transaction, number: 1 };
        client.begin(&last.call()).expect("the server is there");
        if random.bool() {
            server.client().send(&Call::new("POST", "/admin/snapshot")).expect(200);
        }
        server.kill();
        server = store.serve();
        let again = server.client().send(&last.call());
        assert_eq!(again.status, model.answer(&last).0);
        sent.push(last);
        let there = listed(&mut server.client(), 2);
        let expected = model.groups.iter().filter(|(_, is_there)| **is_there);
        assert!(there.iter().eq(expected.map(|(group, _)| group)), "{there:?}");
    }
}

#[test]
fn what_a_node_keeps_is_in_a_backup() {
    let store = node();
    let server = store.serve();
    server.client().send(&create("g").key(key(5, 2))).expect(201);
    drop(server.terminate());
    let copy = store.copy().with(&["--serve-groups"]);
    let server = copy.serve();
    let mut client = server.client();
    assert!(is_there(&mut client, "g"));
    late(&mut client, delete("g").key(key(5, 1)));
    let shown: Value = client.get(PATH).expect(200).json();
    assert_eq!(shown, json!({ "groups": [{ "groupId": "g" }], "next": null }));
}
