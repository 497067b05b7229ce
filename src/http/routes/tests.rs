//! Which requests go where, and what `Allow` says.

use super::*;

fn route(method: &Method, path: &str) -> Option<(&'static str, String)> {
    match find(method, path) {
        Destination::Route(index, parameter) => Some((ROUTES[index].label, parameter.into())),
        _ => None,
    }
}

#[test]
fn every_route_is_found_by_its_own_path() {
    for entry in ROUTES {
        let path = entry.path.replace("{id}", "7").replace("{queue}", "q").replace("{slug}", "s");
        let (label, _) = route(&entry.method, &path).expect("the route is found");
        assert_eq!(label, entry.label);
    }
}

#[test]
fn labels_are_distinct() {
    let mut labels: Vec<_> = ROUTES.iter().map(|route| route.label).collect();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), ROUTES.len());
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
