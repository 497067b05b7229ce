//! Rows A1–A8, A10, A16, A17 of the behaviours: what becomes of a formula that is sent in.

mod common;

use common::{
    Call, Client, Formula, Store, Stream, assert_problem, body, lease, list_all, numbered,
    queue_count, run,
};
use serde_json::{Value, json};

const SUMMER: &[(&str, &str)] = &[("Bergamot Oil", "15.5"), ("Lavender", "10"), ("Musk", "2.25")];

#[test]
fn a01_post_stores_and_answers_with_the_stored_formula() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    let created = client.post("/formulas", body("Summer Breeze", SUMMER)).expect(201);
    let formula: Formula = created.parse();
    assert_eq!(formula.name, "Summer Breeze");
    assert_eq!(formula.lines(), SUMMER);
    assert!(formula.id.len() == 64 && formula.id.bytes().all(|b| b"0123456789abcdef".contains(&b)));
    assert!(formula.seq >= 1);
    assert_eq!(formula.trail, format!("/formulas/{}/trail", formula.id));
    assert!(is_date_with_milliseconds(&formula.accepted_at), "{}", formula.accepted_at);
    let location = created.header("location").expect("a 201 names the new formula");
    assert_eq!(location, format!("/formulas/{}", formula.id));
    let etag = created.header("etag").expect("a 201 has an ETag");
    assert!(etag.starts_with('"') && etag.len() > 2, "a strong ETag, not {etag}");

    let found = client.get(location).expect(200);
    assert_eq!(found.body, created.body, "GET by Location equals the 201");
    assert_eq!(found.header("etag"), Some(etag));
    let by_seq = client.get(&format!("/formulas/{}", formula.seq)).expect(200);
    assert_eq!(by_seq.body, created.body);
    let trail = client.get(&formula.trail).expect(200);
    assert!(trail.text().contains("accepted") && trail.text().contains("announced"));
}

#[test]
fn a01_an_unchanged_formula_is_not_sent_again() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    let created = client.post("/formulas", body("Summer Breeze", SUMMER)).expect(201);
    let location = created.header("location").expect("a 201 has a Location");
    let etag = created.header("etag").expect("a 201 has an ETag");
    for unchanged in [etag, "*", &format!("\"other\", {etag}"), &format!("W/{etag}")] {
        let call = Call::get(location).header("If-None-Match", unchanged);
        assert_eq!(client.send(&call).expect(304).header("etag"), Some(etag));
    }
    client.send(&Call::get(location).header("If-None-Match", "\"other\"")).expect(200);
    let head = client.send(&Call::new("HEAD", location)).expect(200);
    assert_eq!((head.header("etag"), head.body.len()), (Some(etag), 0));
}

#[test]
fn a02_list_is_empty_at_first_and_then_in_order_of_acceptance() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    let empty = client.get("/formulas").expect(200);
    assert_eq!(empty.json(), json!({"formulas": [], "next": null}));
    client.post("/formulas", body("Zest", &[("Lemon", "1")])).expect(201);
    client.post("/formulas", body("Amber", &[("Labdanum", "1")])).expect(201);
    let names: Vec<_> = list_all(&mut client).into_iter().map(|formula| formula.name).collect();
    assert_eq!(names, ["Zest", "Amber"]);
}

#[test]
fn a02_pages_follow_the_cursor_and_the_link() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    for number in 1..=5 {
        client.post("/formulas", numbered(number)).expect(201);
    }
    let mut target = "/formulas?limit=2".to_owned();
    let mut pages = Vec::new();
    loop {
        let page = client.get(&target).expect(200);
        let names: Vec<String> = names_of(&page.json());
        pages.push(names);
        let Some(link) = page.header("link") else {
            assert!(page.json()["next"].is_null(), "the last page has no next");
            break;
        };
        assert!(page.json()["next"].is_string(), "a cursor is an opaque string");
        let (path, rest) = link.split_once('>').expect("<target>; rel=\"next\"");
        assert_eq!(rest.trim_start_matches([';', ' ']), "rel=\"next\"");
        target = path.strip_prefix('<').expect("<target>").to_owned();
    }
    pages.retain(|page| !page.is_empty());
    assert!(pages.iter().all(|page| page.len() <= 2), "{pages:?}");
    let expected: Vec<String> = (1..=5).map(|number| format!("Formula {number}")).collect();
    assert_eq!(pages.concat(), expected);
    for wrong in ["limit=0", "limit=1001", "limit=many", "limit=1&limit=2", "after=~", "sort=x"] {
        assert_problem(&client.get(&format!("/formulas?{wrong}")), 400);
    }
    assert_eq!(names_of(&client.get("/formulas?limit=1000").expect(200).json()).len(), 5);
}

#[test]
fn a02_list_filters_by_name_and_material_as_the_canon_compares_them() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    client.post("/formulas", body("Summer Breeze", &[("Iso E Super", "5")])).expect(201);
    client.post("/formulas", body("Winter", &[("ISO E  super", "6"), ("Musk", "1")])).expect(201);
    let mut names =
        |query: &str| names_of(&client.get(&format!("/formulas?{query}")).expect(200).json());
    assert_eq!(names("name=SUMMER%20breeze"), ["Summer Breeze"]);
    assert_eq!(names("material=isoesuper"), ["Summer Breeze", "Winter"]);
    assert_eq!(names("material=isoesuper&name=winter"), ["Winter"]);
    assert!(names("material=Is").is_empty(), "a part of a name is another name");
}

#[test]
fn a03_formula_is_found_by_the_url_of_a_conflict() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    let created = client.post("/formulas", body("Summer Breeze", SUMMER)).expect(201);
    let conflict = assert_problem(&client.post("/formulas", body("Again", SUMMER)), 409);
    let url = conflict["existing"]["url"].as_str().expect("a conflict has a url");
    assert_eq!(client.get(url).expect(200).body, created.body);
    let unknown = format!("/formulas/{}", "0".repeat(64));
    for unknown in [&unknown, "/formulas/999999", "/formulas/0", "/formulas/no-such-formula"] {
        assert_problem(&client.get(unknown), 404);
        assert_problem(&client.get(&format!("{unknown}/trail")), 404);
        assert_problem(&client.send(&Call::new("DELETE", unknown)), 404);
    }
}

#[test]
fn a04_same_make_up_under_another_name_is_a_duplicate() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    let first: Formula =
        client.post("/formulas", body("Summer Breeze", SUMMER)).expect(201).parse();
    let conflict = client.post("/formulas", body("Summer Delight", SUMMER));
    let problem = assert_problem(&conflict, 409);
    assert_eq!(problem["type"], "/problems/duplicate-formula");
    let existing = json!({
        "id": first.id, "seq": first.seq, "name": "Summer Breeze",
        "url": format!("/formulas/{}", first.id),
    });
    assert_eq!(problem["existing"], existing);
    assert_eq!(list_all(&mut client).len(), 1);
    assert_eq!(queue_count(&mut client, "ready"), 1);
}

#[test]
fn a05_same_name_with_another_make_up_is_another_formula() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    let mut post = |digits| -> Formula {
        client.post("/formulas", body("Summer Breeze", &[("Musk", digits)])).expect(201).parse()
    };
    let (one, two) = (post("1"), post("2"));
    assert_ne!(one.id, two.id);
    assert!(one.seq < two.seq, "numbers grow in order of acceptance");
    assert_eq!(list_all(&mut client).len(), 2);
}

#[test]
fn a06_order_case_blanks_and_spelling_of_numbers_do_not_make_a_new_formula() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    let original = body("One", &[("Bergamot Oil", "10"), ("Musk", "0.5")]);
    let first: Formula = client.post("/formulas", original).expect(201).parse();
    let same = [
        body("Two", &[("Musk", "0.5"), ("Bergamot Oil", "10")]),
        body("Three", &[("BERGAMOT  oil", "10.0"), (" musk ", "0.50")]),
        body("Four", &[("bergamotoil", r#""10.000""#), ("MUSK", "5e-1")]),
        body("Five", &[("Bergamot\tOil", "1e1"), ("Musk", "0.5"), ("Nothing of it", "0")]),
    ];
    for twin in &same {
        let problem = assert_problem(&client.post("/formulas", twin.as_str()), 409);
        assert_eq!(problem["existing"]["id"], first.id, "{twin}");
    }
    let close = body("Six", &[("Bergamot Oil", "10.0001"), ("Musk", "0.5")]);
    let other: Formula = client.post("/formulas", close).expect(201).parse();
    assert_ne!(other.id, first.id, "nothing is rounded");

    server.kill();
    let server = store.serve();
    let mut client = server.client();
    for twin in &same {
        let problem = assert_problem(&client.post("/formulas", twin.as_str()), 409);
        assert_eq!(problem["existing"]["id"], first.id, "after a restart: {twin}");
    }
}

#[test]
fn a07_digits_are_kept_as_sent() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    let sent = [
        ("A", "0.1"),
        ("B", "0.3"),
        ("C", "15.500000000000000001"),
        ("D", "0.000000000000000000000000000001"),
        ("E", "1.50"),
        ("F", "2.5E-3"),
        ("G", "-0"),
        ("H", "99.99999999999999999999"),
    ];
    let exact = |formula: &Formula| assert_eq!(formula.lines(), sent);
    let created: Formula = client.post("/formulas", body("Exact", &sent)).expect(201).parse();
    exact(&created);
    exact(&client.get(&format!("/formulas/{}", created.id)).expect(200).parse());
    exact(&list_all(&mut client)[0]);
    exact(&lease(&mut client, 1, 0.05)[0].formula);
    server.kill();
    let server = store.serve();
    exact(&list_all(&mut server.client())[0]);

    let as_text = body("Text", &[("A", r#""10.000""#), ("B", "1")]);
    let formula: Formula = server.client().post("/formulas", as_text).expect(201).parse();
    assert_eq!(formula.lines(), [("A", "10.000"), ("B", "1")], "text comes back as a number");
}

#[test]
fn a10_list_of_formulas_is_answered_item_by_item() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    let both = client.post("/formulas", format!("[{},{}]", numbered(1), numbered(2)));
    assert_eq!(statuses(&both.expect(201).json()), [201, 201]);
    let mixed = format!("[{},{},{},{{}}]", numbered(3), numbered(1), numbered(3));
    let mixed = client.post("/formulas", mixed).expect(207).json();
    assert_eq!(statuses(&mixed), [201, 409, 409, 400]);
    let results = &mixed["results"];
    assert_eq!(results[0]["formula"]["name"], "Formula 3");
    assert_eq!(results[1]["problem"]["existing"]["name"], "Formula 1");
    assert_eq!(results[2]["problem"]["existing"]["name"], "Formula 3");
    assert_eq!(results[3]["problem"]["status"], 400);
    let refused = client.post("/formulas", format!("[{}]", numbered(1))).expect(207);
    assert_eq!(statuses(&refused.json()), [409]);
    assert_problem(&client.post("/formulas", "[]"), 400);

    let formulas = list_all(&mut client);
    assert_eq!(formulas.len(), 3);
    let announced = lease(&mut client, 1000, 30.0);
    let announced: Vec<u64> = announced.iter().map(|message| message.formula.seq).collect();
    let stored: Vec<u64> = formulas.iter().map(|formula| formula.seq).collect();
    assert_eq!(announced, stored, "what a batch stored is on the queue, and nothing else");
}

#[test]
fn a10_list_may_hold_a_thousand_formulas_and_no_more() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    let list = |count: u64| {
        let items: Vec<String> = (1..=count).map(numbered).collect();
        format!("[{}]", items.join(","))
    };
    assert_problem(&client.post("/formulas", list(1001)), 400);
    assert!(list_all(&mut client).is_empty());
    let results = client.post("/formulas", list(1000)).expect(201).json();
    assert_eq!(statuses(&results), [201; 1000]);
    assert_eq!(list_all(&mut client).len(), 1000);
}

#[test]
fn a10_atomic_list_is_stored_whole_or_not_at_all() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    client.post("/formulas", numbered(1)).expect(201);
    let mut post =
        |items: [String; 3]| client.post("/formulas?atomic=true", format!("[{}]", items.join(",")));
    let stored_before = post([numbered(2), numbered(1), numbered(3)]);
    let problem = assert_problem(&stored_before, 409);
    assert_eq!(pointers(&problem), ["/1"]);
    assert_eq!(problem["errors"][0]["existing"]["name"], "Formula 1");
    assert_eq!(pointers(&assert_problem(&post([2, 3, 2].map(numbered)), 409)), ["/2"]);
    let invalid = body("Wrong", &[("", "1"), ("Musk", "-1")]);
    let problem = assert_problem(&post([numbered(2), numbered(3), invalid]), 400);
    let wrong = ["/2/materials/0/name", "/2/materials/1/concentration"];
    assert_eq!(pointers(&problem), wrong);
    let results = post([2, 3, 4].map(numbered)).expect(201).json();
    assert_eq!(statuses(&results), [201; 3]);

    let stored = list_all(&mut client);
    let names: Vec<&str> = stored.iter().map(|formula| formula.name.as_str()).collect();
    assert_eq!(names, ["Formula 1", "Formula 2", "Formula 3", "Formula 4"]);
    assert_eq!(queue_count(&mut client, "ready"), 4);
}

#[test]
fn a10_lines_are_answered_one_by_one_while_they_are_sent() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    let call = Call::new("POST", "/formulas").header("Content-Type", "application/x-ndjson");
    let mut stream = client.stream(&call);
    let status = |stream: &mut Stream| result_line(stream)["status"].clone();
    // Each answer is read before the next line is sent: nothing waits for the end of the body.
    stream.write(&format!("{}\n", numbered(1)));
    assert_eq!(status(&mut stream), 201);
    stream.write(&format!("{}\n", numbered(1)));
    assert_eq!(status(&mut stream), 409);
    stream.write("{\"name\":\n\n");
    assert_eq!(status(&mut stream), 400);
    let (half, rest) = (numbered(2), numbered(3));
    let (half, other_half) = half.split_at(20);
    stream.write(half);
    stream.write(&format!("{other_half}\n{rest}"));
    stream.end();
    assert_eq!(result_line(&mut stream)["formula"]["name"], "Formula 2");
    assert_eq!(result_line(&mut stream)["formula"]["name"], "Formula 3");
    assert_eq!(stream.line(), None);
    assert_eq!(list_all(&mut client).len(), 3);
}

#[test]
fn a10_many_lines_keep_their_order() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    let lines: String = (0..3000).map(|n| numbered(n % 2000 + 1) + "\n").collect();
    let call = Call::post_as("application/x-ndjson", "/formulas", lines);
    let answer = client.send(&call).expect(200);
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let results = answer
        .text()
        .lines()
        .map(|line| -> Value { serde_json::from_str(line).expect("each line is JSON") });
    for (n, result) in results.enumerate() {
        let name = format!("Formula {}", n % 2000 + 1);
        if n < 2000 {
            assert_eq!(
                (&result["status"], &result["formula"]["name"]),
                (&json!(201), &json!(name))
            );
        } else {
            assert_eq!(result["status"], 409);
            assert_eq!(result["problem"]["existing"]["name"], name);
        }
    }
    assert_eq!(answer.text().lines().count(), 3000);
    assert_eq!(list_all(&mut client).len(), 2000);
}

#[test]
fn a10_check_tells_identity_and_duplicate_and_stores_nothing() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    let check = |client: &mut Client| {
        client.post("/formulas/check", body("Draft", SUMMER)).expect(200).json()
    };
    let before = check(&mut client);
    assert!(before["duplicate_of"].is_null() && !before["canonical"].is_null(), "{before}");
    assert!(list_all(&mut client).is_empty());
    let formula: Formula = client.post("/formulas", body("Real", SUMMER)).expect(201).parse();
    assert_eq!(before["id"], formula.id, "a client learns the id before it submits");
    let after = check(&mut client);
    assert!(after["duplicate_of"].to_string().contains(&formula.id), "{after}");
    assert_problem(&client.post("/formulas/check", "{}"), 400);
    assert_eq!(queue_count(&mut client, "ready"), 1);
}

#[test]
fn a16_events_carry_the_request_id_and_no_secret() {
    let store = Store::new().with(&["--log-level", "debug"]);
    let mut server = store.serve();
    let call = Call::post("/formulas", body("Summer Breeze", SUMMER));
    let call = call.header("X-Request-Id", "probe-16").token("a-secret-of-the-caller");
    let answer = server.client().send(&call).expect(201);
    assert_eq!(answer.header("x-request-id"), Some("probe-16"));
    let event = server.find_event(|fields| fields.to_string().contains("probe-16"));
    assert!(event.is_some(), "an event names the request");
    let said = server.terminate();
    assert_eq!(said.code, Some(0), "{said:?}");
    for line in &said.stderr {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "not a JSON event: {line}");
        assert!(!line.contains("a-secret-of-the-caller"), "{line}");
    }
}

#[test]
fn a17_reset_needs_to_be_asked_for_and_clears_the_store() {
    let store = Store::new();
    let server = store.serve();
    server.client().post("/formulas", numbered(1)).expect(201);
    assert_eq!(server.terminate().code, Some(0));
    let data = store.data();
    let data = data.to_str().expect("a plain path");

    assert_eq!(run(["reset", "--data", data]).status.code(), Some(2), "refused without --yes");
    let server = store.serve();
    assert_eq!(list_all(&mut server.client()).len(), 1, "a refused reset keeps everything");
    let locked = run(["reset", "--data", data, "--yes"]);
    assert_eq!(locked.status.code(), Some(75), "refused while a server runs on it");
    server.terminate();
    assert_eq!(run(["reset", "--data", data, "--yes"]).status.code(), Some(0));
    let server = store.serve();
    assert!(list_all(&mut server.client()).is_empty());
    server.client().post("/formulas", numbered(2)).expect(201);
    server.terminate();
}

#[test]
fn a17_serve_with_reset_starts_empty() {
    let store = Store::new();
    store.serve().client().post("/formulas", numbered(1)).expect(201);
    let store = store.with(&["--reset"]);
    let server = store.serve();
    assert!(list_all(&mut server.client()).is_empty());
    assert_eq!(queue_count(&mut server.client(), "ready"), 0);
    server.client().post("/formulas", numbered(1)).expect(201);
}

#[test]
fn reset_leaves_a_directory_that_is_no_store_alone() {
    let store = Store::new();
    let other = store.beside("diary");
    std::fs::create_dir(&other).expect("a directory can be made");
    std::fs::write(other.join("today.txt"), "dear diary").expect("a file can be written");
    let text = other.to_str().expect("a plain path");
    assert_ne!(run(["reset", "--data", text, "--yes"]).status.code(), Some(0));
    let kept = std::fs::read_to_string(other.join("today.txt"));
    assert_eq!(kept.expect("the file is still there"), "dear diary");
}

#[test]
fn withdrawn_formula_is_announced_and_may_come_again() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    let first: Formula = client.post("/formulas", numbered(1)).expect(201).parse();
    let path = format!("/formulas/{}", first.id);
    let gone = client.send(&Call::new("DELETE", path.as_str())).expect(204);
    assert!(gone.body.is_empty());
    assert_problem(&client.get(&path), 404);
    assert_problem(&client.send(&Call::new("DELETE", path.as_str())), 404);
    assert!(list_all(&mut client).is_empty());
    let messages = lease(&mut client, 10, 30.0);
    let kinds: Vec<&str> = messages.iter().map(|message| message.kind.as_str()).collect();
    assert_eq!(kinds, ["formula.withdrawn"], "the undelivered message is cancelled");
    assert_eq!(messages[0].formula.id, first.id);

    let second: Formula = client.post("/formulas", numbered(1)).expect(201).parse();
    assert_eq!(second.id, first.id);
    assert!(second.seq > first.seq);
    server.kill();
    let server = store.serve();
    let found = list_all(&mut server.client());
    assert_eq!(found.iter().map(|formula| formula.seq).collect::<Vec<_>>(), [second.seq]);
}

fn result_line(stream: &mut Stream) -> Value {
    let line = stream.line().expect("an answer to each line");
    serde_json::from_str(&line).expect("each answer is JSON")
}

fn names_of(page: &Value) -> Vec<String> {
    let formulas = page["formulas"].as_array().expect("a page of formulas");
    let name = |formula: &Value| formula["name"].as_str().expect("a name").to_owned();
    formulas.iter().map(name).collect()
}

fn statuses(answer: &Value) -> Vec<u64> {
    let results = answer["results"].as_array().expect("an answer to each item");
    results.iter().map(|result| result["status"].as_u64().expect("a status")).collect()
}

fn pointers(problem: &Value) -> Vec<&str> {
    let errors = problem["errors"].as_array().expect("all faults are listed");
    errors.iter().map(|error| error["pointer"].as_str().expect("a pointer")).collect()
}

fn is_date_with_milliseconds(text: &str) -> bool {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00T00:00:00.000Z"
}
