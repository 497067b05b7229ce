//! Rows A8, A9, A14, A15 of the behaviours: what is refused, with which status, in one shape.

mod common;

use common::{
    Call, Client, Response, Server, Store, assert_problem, body, lease, list_all, numbered,
    queue_count, raw_exchange,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Bodies that are JSON but no formula, each with the place of every fault in it.
const INVALID: &[(&str, &[&str])] = &[
    // The first is the invalid formula of the seeds: both its faults are named at once.
    (
        r#"{"name":"Bad","materials":[{"name":"A","concentration":"high"},
            {"name":"B","concentration":-5}]}"#,
        &["/materials/0/concentration", "/materials/1/concentration"],
    ),
    (r#"{"materials":[{"name":"A","concentration":1}]}"#, &["/name"]),
    (r#"{"name":"X"}"#, &["/materials"]),
    (r#"{"name":"X","materials":[{"concentration":1}]}"#, &["/materials/0/name"]),
    (r#"{"name":"X","materials":[{"name":"A"}]}"#, &["/materials/0/concentration"]),
    (r#"{"name":500,"materials":[{"name":"A","concentration":1}]}"#, &["/name"]),
    (r#"{"name":"  ","materials":[{"name":"A","concentration":1}]}"#, &["/name"]),
    (r#"{"name":"X","materials":"not a list"}"#, &["/materials"]),
    (r#"{"name":"X","materials":[]}"#, &["/materials"]),
    (r#"{"name":"X","materials":["A"]}"#, &["/materials/0"]),
    (r#"{"name":"X","materials":[["A",1]]}"#, &["/materials/0"]),
    (r#"{"name":"X","materials":[{"name":"","concentration":1}]}"#, &["/materials/0/name"]),
    (r#"{"name":"X","materials":[{"name":"™","concentration":1}]}"#, &["/materials/0/name"]),
    (r#"{"name":"X","materials":[{"name":null,"concentration":1}]}"#, &["/materials/0/name"]),
    (
        r#"{"name":"X","materials":[{"name":"A","concentration":1},
            {"name":" a ","concentration":2}]}"#,
        &["/materials/1/name"],
    ),
    (r#"{"name":"X","materials":[{"name":"A","concentration":0}]}"#, &["/materials"]),
    (r#"{"name":"X","unit":"%","materials":[{"name":"A","concentration":1}]}"#, &["/unit"]),
    (
        r#"{"name":"X","materials":[{"name":"A","concentration":1,"unit":"g"}]}"#,
        &["/materials/0/unit"],
    ),
];

/// Concentrations that no formula may have. All are JSON.
const CONCENTRATIONS: &[&str] = &[
    "true",
    "null",
    "[1]",
    "{}",
    "-1",
    "-0.000001",
    "100.000000000000000000000000000001",
    "1e3",
    "1e400000000",
    "1e-31",
    r#""NaN""#,
    r#""Infinity""#,
    r#"" 1""#,
    r#""1,5""#,
    r#""""#,
    r#""0x1""#,
    r#""+1""#,
    r#""01""#,
    r#"".5""#,
    r#""1.""#,
    r#""10 %""#,
];

/// Bodies that are no JSON, and two that are JSON but never a request.
const MALFORMED: &[&str] = &[
    r#"{"name":"#,
    "",
    "name=Summer",
    r#"{"name":"X","materials":[{"name":"A","concentration":NaN}]}"#,
    r#"{"name":"X","materials":[{"name":"A","concentration":Infinity}]}"#,
    r#"{"name":"X","materials":[{"name":"A","concentration":01}]}"#,
    r#"{"name":"X","materials":[{"name":"A","concentration":1}]} and more"#,
    r#"{"name":"\ud800","materials":[{"name":"A","concentration":1}]}"#,
    "\u{feff}{}",
    "5",
    r#""formula""#,
];

#[test]
fn a08_every_fault_is_named_with_its_place_and_nothing_is_stored() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    for (text, places) in INVALID {
        let problem = assert_problem(&client.post("/formulas", *text), 400);
        let errors = problem["errors"].as_array().expect("a validation problem lists its faults");
        let named: Vec<&str> =
            errors.iter().filter_map(|error| error["pointer"].as_str()).collect();
        for place in *places {
            assert!(named.contains(place), "{place} not in {named:?} for {text}");
        }
        assert_eq!(named.len(), places.len(), "{named:?} for {text}");
        let explained = |error: &Value| error["detail"].as_str().is_some_and(|d| !d.is_empty());
        assert!(errors.iter().all(explained), "{errors:?}");
    }
    assert_nothing_stored(&mut client);
}

#[test]
fn a08_concentrations_are_decimals_from_0_to_100() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    for wrong in CONCENTRATIONS {
        let text = body("X", &[("A", "1"), ("B", wrong)]);
        let problem = assert_problem(&client.post("/formulas", text), 400);
        assert_eq!(problem["errors"][0]["pointer"], "/materials/1/concentration", "{wrong}");
    }
    assert_nothing_stored(&mut client);
    for right in ["100", "1e2", "1e-30", r#""100.000""#] {
        client.post("/formulas", body("Edge", &[(&format!("M{right}"), right)])).expect(201);
    }
}

#[test]
fn a08_a_repeated_material_names_both_lines() {
    let store = Store::new();
    let server = store.serve();
    let text = body("X", &[("Iso E Super", "1"), ("Musk", "1"), ("ISO E SUPER", "2")]);
    let answer = server.client().post("/formulas", text);
    assert_problem(&answer, 400);
    for place in ["/materials/0", "/materials/2"] {
        assert!(answer.text().contains(place), "{place} not in {}", answer.text());
    }
}

#[test]
fn a08_odd_but_honest_formulas_are_not_refused() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    let honest: &[&[(&str, &str)]] = &[
        &[("Hedione® HC / (cis) @ 10% in DPG", "1")],
        &[("Habanolide™", "80"), ("Ambrox '97", "80")],
        &[("Rosé", "1")],
        &[("Rose", "1")],
        &[("α-Damascone", "0.1"), ("β-Damascone", "0.1")],
        &[("バニラ", "0.0000025")],
    ];
    for materials in honest {
        client.post("/formulas", body("Честно", materials)).expect(201);
    }
    assert_eq!(list_all(&mut client).len(), honest.len());
}

#[test]
fn a09_malformed_json_is_400() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    for text in MALFORMED {
        assert_problem(&client.post("/formulas", *text), 400);
    }
    let not_utf8 = b"{\"name\":\"\xff\",\"materials\":[{\"name\":\"A\",\"concentration\":1}]}";
    assert_problem(&client.post("/formulas", not_utf8.as_slice()), 400);
    let deep = "[".repeat(100_000);
    assert_problem(&client.post("/formulas", deep), 400);
    assert_nothing_stored(&mut client);
}

#[test]
fn a09_other_content_types_are_415() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    for wrong in ["text/plain", "application/xml", "application/x-www-form-urlencoded", "json"] {
        assert_problem(&client.send(&Call::post_as(wrong, "/formulas", numbered(1))), 415);
    }
    assert_nothing_stored(&mut client);
    let call = Call::post_as("Application/JSON; charset=utf-8", "/formulas", numbered(1));
    client.send(&call).expect(201);
}

#[test]
fn a09_a_body_over_its_bound_is_413_before_it_is_sent() {
    let store = Store::new();
    let server = store.serve();
    let head = "POST /formulas HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    let announced = format!("{head}Content-Length: 100000000\r\n\r\n");
    assert_problem(&raw_exchange(server.address(), announced.as_bytes()), 413);

    let mut client = server.client();
    let filled = |bytes: usize| {
        let plain = numbered(1);
        plain.clone() + &" ".repeat(bytes - plain.len())
    };
    let answer = client.post("/formulas", filled((1 << 20) + 1));
    assert_problem(&answer, 413);
    assert_nothing_stored(&mut client);
    client.post("/formulas", filled(1 << 20)).expect(201);
}

#[test]
fn a14_each_status_is_given_where_it_is_due() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    let refusals = [
        (Call::get("/no/such/path"), 404),
        (Call::get("/formulas/"), 404),
        (Call::get("/queues/nobody"), 404),
        (Call::post("/queues/nobody/lease", "{}"), 404),
        (Call::post("/queues/seals/lease", "{}"), 403),
        (Call::new("PUT", "/formulas"), 405),
        (Call::new("DELETE", "/formulas"), 405),
        (Call::new("PATCH", "/formulas/1"), 405),
        (Call::get("/formulas/check"), 405),
        (Call::get("/queues/formulas/lease"), 405),
        (Call::get("/formulas").header("Accept", "text/html"), 406),
        (Call::get(format!("/formulas?name={}", "x".repeat(9000))), 414),
        (Call::get("/formulas").header("X-Long", "x".repeat(40_000)), 431),
    ];
    for (call, status) in &refusals {
        let answer = client.send(call);
        assert_problem(&answer, *status);
        assert_eq!(answer.header("allow").is_some(), *status == 405, "{call:?}");
    }
    let no_length = "POST /formulas HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\r\n";
    assert_problem(&raw_exchange(server.address(), no_length.as_bytes()), 411);
    for (accept, status) in [("*/*", 200), ("application/*;q=0.5, text/html", 200)] {
        client.send(&Call::get("/formulas").header("Accept", accept)).expect(status);
    }
}

#[test]
fn a14_options_agree_with_allow_and_head_with_get() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    let created = client.post("/formulas", numbered(1)).expect(201);
    let one = created.header("location").expect("a 201 has a Location").to_owned();
    for (path, allowed) in [
        ("/formulas", "GET HEAD OPTIONS POST"),
        (one.as_str(), "DELETE GET HEAD OPTIONS"),
        ("/formulas/check", "OPTIONS POST"),
        ("/queues", "GET HEAD OPTIONS"),
        ("/queues/formulas/lease", "OPTIONS POST"),
    ] {
        let options = client.send(&Call::new("OPTIONS", path));
        assert!([200, 204].contains(&options.status), "{options:?}");
        assert_eq!(allow(&options), allowed, "OPTIONS {path}");
        assert_eq!(allow(&client.send(&Call::new("PUT", path)).expect(405)), allowed, "{path}");
    }
    for path in ["/formulas", &one, "/queues", "/queues/formulas", "/livez", "/version"] {
        let (get, head) = (client.get(path), client.send(&Call::new("HEAD", path)));
        assert_eq!((get.status, head.status), (200, 200), "{path}");
        assert_eq!(get.header("content-type"), head.header("content-type"), "{path}");
        assert!(head.body.is_empty());
    }
}

#[test]
fn a14_tokens_are_asked_for_and_scopes_are_kept() {
    let store = Store::new();
    let tokens = store.beside("tokens");
    let lines = [("ann", "secret-a", "submit"), ("ben", "secret-b", "read,consume")].map(
        |(name, secret, scopes)| {
            let hash: String =
                Sha256::digest(secret).iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{name} {hash} {scopes}\n")
        },
    );
    std::fs::write(&tokens, lines.concat()).expect("a file can be written");
    let store = store.with(&["--tokens", tokens.to_str().expect("a plain path")]);
    let server = store.serve();
    let mut client = server.client();
    for call in [
        Call::post("/formulas", numbered(1)),
        Call::get("/formulas"),
        Call::post("/formulas", numbered(1)).token("wrong"),
        Call::get("/formulas").header("Authorization", "Basic YTpi"),
    ] {
        let answer = client.send(&call);
        assert_problem(&answer, 401);
        let challenge = answer.header("www-authenticate").unwrap_or_default();
        assert!(challenge.starts_with("Bearer"), "{challenge:?}");
    }
    assert_problem(&client.send(&Call::get("/formulas").token("secret-a")), 403);
    assert_problem(&client.send(&Call::post("/formulas", numbered(1)).token("secret-b")), 403);
    let leasing = |token: &str| Call::post("/queues/formulas/lease", "{}").token(token);
    assert_problem(&client.send(&leasing("secret-a")), 403);
    client.send(&Call::post("/formulas", numbered(1)).token("secret-a")).expect(201);
    client.send(&Call::get("/formulas").token("secret-b")).expect(200);
    client.send(&leasing("secret-b")).expect(200);
    client.get("/livez").expect(200);
    client.get("/readyz").expect(200);
}

#[test]
fn a14_without_tokens_only_loopback_is_served() {
    let refused = Store::new().try_serve_at("0.0.0.0:0").expect_err("no server without tokens");
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.join(" ").contains("--tokens"), "{refused:?}");
}

#[test]
fn a15_every_refusal_has_one_shape_and_its_type_is_a_page() {
    let store = Store::new().with(&["--require-idempotency-key"]);
    let server = store.serve();
    let mut client = server.client();
    let post = |key: &str, text: String| Call::post("/formulas", text).key(key);
    client.send(&post("first", numbered(1))).expect(201);
    let message = lease(&mut client, 1, 30.0).remove(0);
    let receipt = |receipt: &str| format!(r#"{{"receipts":["{receipt}"]}}"#);
    client.post("/queues/formulas/ack", receipt(&message.receipt)).expect(200);
    let calls = [
        (post("second", numbered(1)), 409),
        (post("first", numbered(2)), 422),
        (post("third", "{}".to_owned()), 400),
        (post("fourth", "{".to_owned()), 400),
        (post(&"k".repeat(256), numbered(2)), 400),
        (Call::post("/formulas", numbered(2)), 400),
        (Call::post("/queues/formulas/ack", receipt(&message.receipt)), 409),
        (Call::post("/queues/formulas/ack", receipt("no receipt")), 409),
        (Call::post("/queues/formulas/ack", r#"{"receipts":[]}"#), 400),
        (Call::post("/queues/formulas/lease", r#"{"max":0,"wait_s":21}"#), 400),
        (Call::post("/queues/formulas/lease", r#"{"maximum":1}"#), 400),
        (Call::post("/queues/releases/lease", "{}"), 403),
        (Call::get("/nowhere"), 404),
        (Call::new("PUT", "/queues"), 405),
        (Call::post_as("text/csv", "/formulas", "a,b"), 415),
    ];
    let mut types = Vec::new();
    for (call, status) in &calls {
        let problem = assert_problem(&client.send(call), *status);
        types.push(problem["type"].as_str().expect("checked").to_owned());
    }
    types.sort();
    types.dedup();
    assert!(types.len() >= 9, "different refusals have different types: {types:?}");
    for page in &types {
        client.get(page).expect(200);
    }
    assert_problem(&raw_exchange(server.address(), b"GET / HTTP/1.1\r\n\r\n"), 400);
    assert_problem(&raw_exchange(server.address(), b"nonsense\r\n\r\n"), 400);
}

#[test]
fn a15_request_id_of_the_caller_is_taken_over_if_sane() {
    let store = Store::new();
    let server: Server = store.serve();
    let mut client = server.client();
    let mut ask =
        |id: &str| -> Response { client.send(&Call::get("/nowhere").header("X-Request-Id", id)) };
    let taken = ask("order-66.b");
    assert_eq!(assert_problem(&taken, 404)["request_id"], "order-66.b");
    let longest = "i".repeat(128);
    assert_eq!(ask(&longest).header("x-request-id"), Some(longest.as_str()));
    for strange in ["i".repeat(129), "two words".to_owned(), "caf\u{e9}".to_owned()] {
        let answer = ask(&strange);
        assert_problem(&answer, 404);
        assert_ne!(answer.header("x-request-id"), Some(strange.as_str()));
    }
    let (one, two) = (client.get("/nowhere"), client.get("/nowhere"));
    assert_ne!(one.header("x-request-id"), two.header("x-request-id"));
}

#[track_caller]
fn assert_nothing_stored(client: &mut Client) {
    assert!(list_all(client).is_empty());
    for phase in ["ready", "leased", "delayed", "dead"] {
        assert_eq!(queue_count(client, phase), 0, "{phase}");
    }
}

/// The methods of an `Allow` header, sorted.
fn allow(response: &Response) -> String {
    let allow = response.header("allow").expect("OPTIONS and 405 carry Allow");
    let mut methods: Vec<&str> = allow.split(',').map(str::trim).collect();
    methods.sort_unstable();
    methods.join(" ")
}
