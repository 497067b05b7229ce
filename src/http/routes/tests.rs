//! Which requests go where, and what `Allow` says.

use super::*;

fn served() -> Served {
    Served::new(NodeRole::Played)
}

fn find(method: &Method, path: &str) -> Destination {
    served().find(method, path)
}

fn route(method: &Method, path: &str) -> Option<(&'static str, String)> {
    match find(method, path) {
        Destination::Route(index, parameter) => Some((served().get(index).label, parameter.into())),
        _ => None,
    }
}

#[test]
fn every_route_is_found_by_its_own_path() {
    for entry in served().iter() {
        let path = entry.path.replace("{id}", "7").replace("{queue}", "q").replace("{slug}", "s");
        let (label, _) = route(&entry.method, &path).expect("the route is found");
        assert_eq!(label, entry.label);
    }
}

#[test]
fn labels_are_distinct() {
    let mut labels: Vec<_> = served().iter().map(|route| route.label).collect();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), served().iter().count());
}

#[test]
fn fixed_segments_win_over_variable_ones_whatever_the_method() {
    assert_eq!(route(&Method::POST, "/formulas/check").map(|r| r.0), Some("formulas_check"));
    for method in [Method::GET, Method::HEAD, Method::DELETE] {
        let Destination::MethodUnknown(allowed) = find(&method, "/formulas/check") else {
            panic!("{method} /formulas/check is no formula")
        };
        assert_eq!(allowed, "POST, OPTIONS");
    }
}

#[test]
fn variable_segments_are_decoded_and_never_span_slashes() {
    assert_eq!(route(&Method::GET, "/queues/a%2Fb"), Some(("queue_status", String::from("a/b"))));
    assert_eq!(route(&Method::GET, "/queues/"), None);
    assert_eq!(route(&Method::GET, "/queues/a/b"), None);
    assert_eq!(route(&Method::GET, "/queues/%ff"), None);
    assert_eq!(route(&Method::GET, "/queues/q/messages/"), None);
    assert_eq!(route(&Method::GET, "/formulas/{id}"), Some(("formula_get", String::from("{id}"))));
    assert_eq!(
        route(&Method::GET, "/queues/é/messages"),
        Some(("queue_messages", String::from("é")))
    );
}

#[test]
fn head_goes_where_get_goes() {
    assert_eq!(route(&Method::HEAD, "/formulas").map(|r| r.0), Some("formulas_list"));
}

#[test]
fn options_and_wrong_methods_agree_on_allow() {
    let Destination::Options(options) = find(&Method::OPTIONS, "/formulas/7") else {
        panic!("options are answered")
    };
    let Destination::MethodUnknown(wrong) = find(&Method::PUT, "/formulas/7") else {
        panic!("the method is unknown")
    };
    assert_eq!(options, wrong);
    assert_eq!(options, "GET, HEAD, DELETE, OPTIONS");
}

#[test]
fn the_paths_of_a_node_are_unknown_where_none_is_played() {
    let plain = Served::new(NodeRole::Off);
    for path in ["/v1/group/", "/v1/group/g/"] {
        for method in [Method::GET, Method::POST, Method::DELETE, Method::OPTIONS, Method::PUT] {
            let found = plain.find(&method, path);
            assert!(matches!(found, Destination::PathUnknown), "{method} {path}: {found:?}");
        }
    }
    let Destination::Options(all) = plain.find(&Method::OPTIONS, "*") else {
        panic!("options are answered")
    };
    assert_eq!(all, "POST, GET, HEAD, DELETE, OPTIONS");
    assert!(plain.iter().all(|route| !route.path.starts_with("/v1/")));
}

#[test]
fn the_paths_of_a_node_end_in_a_slash() {
    let label = |method, path| route(&method, path).map(|found| found.0);
    assert_eq!(label(Method::POST, "/v1/group/"), Some("node_group_create"));
    assert_eq!(label(Method::GET, "/v1/group/"), Some("node_groups_list"));
    assert_eq!(route(&Method::GET, "/v1/group/a%2Fb/"), Some(("node_group_get", "a/b".into())));
    assert_eq!(route(&Method::GET, "/v1/group/{id}/"), Some(("node_group_get", "{id}".into())));
    for path in ["/v1/group", "/v1/group/a", "/v1/group/a/b/", "/v1/group//", "/v1/group/%ff/"] {
        assert_eq!(route(&Method::GET, path), None, "{path}");
    }
    let Destination::Options(allowed) = find(&Method::OPTIONS, "/v1/group/") else {
        panic!("options are answered")
    };
    assert_eq!(allowed, "POST, DELETE, GET, HEAD, OPTIONS");
}
