//! What calls tell of the nodes.

use super::*;
use crate::limits::{BREAKER_OPEN_MS, NODE_FAILURES_MAX};
use crate::metrics::Metrics;
use crate::outbound::fault::Phase;
use crate::outbound::harness::target;
use crate::outbound::nodes::Said;

const DEADLINE_MS: u64 = 5_000;

fn at(ms: u64) -> Moment {
    Moment { wall: Timestamp(1_000_000 + ms), uptime: Uptime(ms) }
}

fn nodes(count: usize) -> Vec<Target> {
    (0..count).map(|n| target(&format!("http://node-{n}.example:5000/x"))).collect()
}

fn health(configured: &[Target]) -> Health {
    Health::new(configured, DEADLINE_MS, ReleaseMetrics::default())
}

fn answered(status: u16) -> Reply {
    let status = hyper::StatusCode::from_u16(status).expect("a status");
    Reply { status, said: Said::default() }
}

fn timed_out() -> NodeFault {
    NodeFault::Call(CallFault::TimedOut { phase: Phase::Head })
}

#[test]
fn configured_nodes_are_shown_in_order_before_anything_is_known() {
    let configured = nodes(3);
    let view = health(&configured).view(Uptime(0));
    let urls: Vec<&str> = view.iter().map(|node| node.url.as_str()).collect();
    assert_eq!(urls, configured.iter().map(Target::as_str).collect::<Vec<_>>());
    for (index, node) in view.iter().enumerate() {
        assert_eq!(node.index, Some(index));
        assert_eq!(node.breaker, BreakerState::Closed);
        assert_eq!((node.calls, node.failures, node.latency_ms), (0, 0, None));
        assert_eq!((&node.last_error, node.last_success), (&None, None));
    }
}

#[test]
fn one_node_that_fails_opens_its_own_breaker_only() {
    let configured = nodes(2);
    let health = health(&configured);
    for ms in 0..u64::from(NODE_FAILURES_MAX) {
        health.note(&configured[0], CallKind::Look, Noted::Failed(&timed_out()), 9, at(ms));
    }
    let until = Uptime(u64::from(NODE_FAILURES_MAX) - 1 + BREAKER_OPEN_MS);
    assert_eq!(health.breaker(&configured[0], Uptime(5)), BreakerState::Open { until });
    // Asking how it stands lets no probe through.
    assert_eq!(health.breaker(&configured[0], until), BreakerState::HalfOpen);
    assert_eq!(health.admit(&configured[0], Uptime(5)), Admission::Refused { until });
    assert_eq!(health.admit(&configured[1], Uptime(5)), Admission::Call);
    assert_eq!(health.admit(&configured[0], until), Admission::Probe);
    let probe_until = until.plus_ms(DEADLINE_MS);
    assert_eq!(health.admit(&configured[0], until), Admission::Refused { until: probe_until });
    let view = &health.view(Uptime(5))[0];
    assert_eq!(view.failures_in_row, NODE_FAILURES_MAX);
    assert_eq!((view.calls, view.failures, view.latency_ms), (5, 5, None));
    assert_eq!(view.last_error.as_ref().map(|error| error.at), Some(Timestamp(1_000_004)));
}

#[test]
fn a_refusal_is_an_error_of_a_node_that_is_well() {
    let configured = nodes(1);
    let health = health(&configured);
    let note = |noted: Noted<'_>| health.note(&configured[0], CallKind::Create, noted, 3, at(1));
    for _ in 1..NODE_FAILURES_MAX {
        note(Noted::Failed(&timed_out()));
    }
    note(Noted::Refused(&answered(403)));
    note(Noted::Failed(&NodeFault::Answered(answered(500))));
    let view = &health.view(Uptime(1))[0];
    assert_eq!(view.breaker, BreakerState::Closed);
    assert_eq!((view.failures_in_row, view.failures), (1, u64::from(NODE_FAILURES_MAX)));
    assert_eq!(view.last_error.as_ref().map(|error| error.text.as_str()), Some("answered 500"));
    assert_eq!(view.last_success, None);
    note(Noted::Nothing);
    assert_eq!(&health.view(Uptime(1))[0], view);
}

#[test]
fn only_answers_have_a_latency_and_the_average_follows_them() {
    let configured = nodes(1);
    let health = health(&configured);
    let shown = || {
        let view = health.view(Uptime(0)).remove(0);
        (view.latency_ms, view.latency_average_ms)
    };
    let note = |noted: Noted<'_>, ms| health.note(&configured[0], CallKind::Look, noted, ms, at(0));
    note(Noted::Failed(&timed_out()), 5_000);
    assert_eq!(shown(), (None, None));
    note(Noted::Well, 100);
    assert_eq!(shown(), (Some(100), Some(100)));
    note(Noted::Failed(&NodeFault::Answered(answered(500))), 180);
    assert_eq!(shown(), (Some(180), Some(110)));
    note(Noted::Failed(&timed_out()), 5_000);
    assert_eq!(shown(), (Some(180), Some(110)));
    for _ in 0..200 {
        note(Noted::Well, 7);
    }
    assert_eq!(shown(), (Some(7), Some(7)));
    for _ in 0..200 {
        note(Noted::Well, u64::MAX);
    }
    assert_eq!(shown().0, Some(u64::MAX));
}

#[test]
fn a_node_is_known_by_its_normal_form() {
    let health = health(&[target("http://NODE.example:80")]);
    let same = target("http://node.example/");
    health.note(&same, CallKind::Look, Noted::Well, 1, at(0));
    let view = health.view(Uptime(0));
    assert_eq!(view.iter().map(|node| node.calls).collect::<Vec<_>>(), [1]);
}

#[test]
fn strangers_are_known_too_but_never_in_place_of_configured_nodes_or_without_bound() {
    let configured = nodes(NODES_MAX);
    let health = health(&configured);
    let stranger = |n: usize| target(&format!("http://stranger-{n}.example/"));
    let room = NODES_KNOWN_MAX - NODES_MAX;
    for n in 0..room {
        health.note(&stranger(n), CallKind::Look, Noted::Well, 1, at(n as u64));
    }
    // The first is asked about, so the second is the one that was not for the longest.
    let _ = health.admit(&stranger(0), Uptime(1000));
    health.note(&stranger(room), CallKind::Look, Noted::Well, 1, at(1001));
    let view = health.view(Uptime(1001));
    assert_eq!(view.len(), NODES_KNOWN_MAX);
    assert!(view[..NODES_MAX].iter().all(|node| node.index.is_some()));
    let url = |n: usize| format!("http://stranger-{n}.example");
    let knows = |n: usize| view.iter().any(|node| node.url == url(n));
    assert!(knows(0) && !knows(1) && knows(2) && knows(room));
    for n in 0..1000 {
        health.note(&stranger(n), CallKind::Look, Noted::Well, 1, at(2000 + n as u64));
    }
    assert_eq!(health.view(Uptime(9000)).len(), NODES_KNOWN_MAX);
    // Who is not known is well, and is not known by being asked about either.
    assert_eq!(health.breaker(&target("http://new.example/"), Uptime(9000)), BreakerState::Closed);
    assert!(!health.view(Uptime(9000)).iter().any(|node| node.url == "http://new.example/"));
}

#[test]
fn metrics_tell_nodes_apart_but_not_strangers_and_hold_no_path() {
    let metrics = Metrics::new();
    let configured = nodes(2);
    let health = Health::new(&configured, DEADLINE_MS, metrics.releases.clone());
    let stranger = target("http://stranger.example/secret");
    health.note(&configured[1], CallKind::Create, Noted::Well, 20, at(0));
    health.note(&stranger, CallKind::Look, Noted::Failed(&timed_out()), 20, at(0));
    for _ in 0..NODE_FAILURES_MAX {
        let refused = NodeFault::Call(CallFault::Refused);
        health.note(&configured[0], CallKind::Delete, Noted::Failed(&refused), 1, at(0));
    }
    let text = metrics.text();
    for line in [
        "sillage_node_calls_total{node=\"1\",host=\"node-1.example:5000\",call=\"create\",\
         outcome=\"well\"} 1",
        "sillage_node_calls_total{node=\"0\",host=\"node-0.example:5000\",call=\"delete\",\
         outcome=\"unreachable\"} 5",
        "sillage_node_calls_total{node=\"other\",host=\"\",call=\"look\",\
         outcome=\"timed_out\"} 1",
        "sillage_node_breaker{node=\"0\",host=\"node-0.example:5000\"} 2",
        "sillage_node_breaker{node=\"1\",host=\"node-1.example:5000\"} 0",
        "sillage_node_call_seconds_count{node=\"1\",host=\"node-1.example:5000\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
    }
    assert!(!text.contains("secret") && !text.contains("/x"));
    // Time alone moves it on, and whoever looks sees it.
    let _ = health.view(Uptime(BREAKER_OPEN_MS));
    let half_open = "sillage_node_breaker{node=\"0\",host=\"node-0.example:5000\"} 1";
    assert!(metrics.text().lines().any(|line| line == half_open));
    assert!(!format!("{health:?}").contains("/x"));
}
