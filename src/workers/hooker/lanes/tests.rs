//! Tests of the lanes.

use super::*;
use crate::outbound::backoff::Backoff;

const BACKOFF: Backoff = Backoff { base_ms: 1000, cap_ms: 8000 };

fn lanes() -> Lanes<u32> {
    Lanes::new(BACKOFF)
}

fn begin_all(lanes: &mut Lanes<u32>, now: Uptime) -> Vec<(Box<str>, u32)> {
    std::iter::from_fn(|| lanes.next(now)).collect()
}

#[test]
fn a_destination_gets_few_calls_at_once_and_others_are_not_held_up() {
    let mut lanes = lanes();
    for delivery in 0..20 {
        assert_eq!(lanes.offer("slow", delivery, Uptime(0)), None);
    }
    assert_eq!(lanes.offer("other", 100, Uptime(0)), None);
    let begun = begin_all(&mut lanes, Uptime(0));
    assert_eq!(begun.len(), HOOK_LANE_CALLS_MAX + 1);
    assert!(begun.iter().any(|(name, delivery)| &**name == "other" && *delivery == 100));
    assert_eq!(lanes.in_hand(), 21);
}

#[test]
fn what_waits_for_a_slow_destination_makes_room_in_the_order_of_its_turn() {
    let mut lanes = lanes();
    (0..20).for_each(|delivery| assert_eq!(lanes.offer("slow", delivery, Uptime(0)), None));
    begin_all(&mut lanes, Uptime(0));
    let quick = Uptime(HOOK_LANE_SLOW_MS - 1);
    assert!(lanes.overdue(quick).is_empty());
    assert_eq!(lanes.next_overdue_ms(quick), Some(1));
    let slow = Uptime(HOOK_LANE_SLOW_MS);
    let put_off = lanes.overdue(slow);
    let kept = HOOK_LANE_CALLS_MAX + HOOK_LANE_WAITING_SLOW_MAX;
    assert_eq!(put_off.len(), 20 - kept);
    assert!(put_off.is_sorted_by_key(|(_, delay_ms)| *delay_ms));
    assert_eq!(lanes.in_hand(), kept);
    assert!(lanes.offer("slow", 99, slow).is_some(), "it has enough to do");
    assert_eq!(lanes.next_overdue_ms(slow), None);
}

#[test]
fn destination_that_does_not_answer_is_left_alone_longer_and_longer() {
    let mut lanes = lanes();
    let mut now = Uptime(0);
    for _ in 1..HOOK_LANE_PAUSE_AFTER {
        assert_eq!(lanes.offer("dead", 1, now), None);
        let (name, _) = lanes.next(now).expect("its turn");
        assert!(lanes.end(&name, now, Some(Health::Unwell), now, 0).is_empty());
    }
    for pause_ms in [900, 1800, 3600, 7200, 7200] {
        (0..3).for_each(|delivery| assert_eq!(lanes.offer("dead", delivery, now), None));
        let begun = now;
        let (name, _) = lanes.next(now).expect("its turn");
        let put_off = lanes.end(&name, begun, Some(Health::Unwell), now, 0);
        assert!(put_off.iter().all(|(_, delay_ms)| *delay_ms >= pause_ms));
        assert!(lanes.offer("dead", 9, now).is_some());
        now = now.plus_ms(pause_ms);
        assert_eq!(lanes.next(now), None, "all of it was put off");
    }
    (0..3).for_each(|delivery| assert_eq!(lanes.offer("dead", delivery, now), None));
    assert_eq!(begin_all(&mut lanes, now).len(), 1, "it is tried by one call");
    assert!(lanes.end("dead", now, Some(Health::Well), now, 0).is_empty());
    assert_eq!(begin_all(&mut lanes, now).len(), 2, "it is well");
}

#[test]
fn destination_that_asks_for_peace_gets_it() {
    let mut lanes = lanes();
    (0..3).for_each(|delivery| assert_eq!(lanes.offer("busy", delivery, Uptime(0)), None));
    lanes.next(Uptime(0)).expect("its turn");
    let put_off = lanes.end("busy", Uptime(0), Some(Health::Busy(5000)), Uptime(10), 0);
    assert_eq!(put_off.len(), 2);
    assert!(put_off.iter().all(|(_, delay_ms)| *delay_ms >= 5000));
    assert!(lanes.offer("busy", 3, Uptime(5009)).is_some());
    assert_eq!(lanes.offer("busy", 3, Uptime(5010)), None);
}

#[test]
fn one_path_that_asks_for_an_hour_does_not_silence_its_host_for_an_hour() {
    let mut lanes = lanes();
    (0..3).for_each(|delivery| assert_eq!(lanes.offer("shared", delivery, Uptime(0)), None));
    lanes.next(Uptime(0)).expect("its turn");
    let put_off = lanes.end("shared", Uptime(0), Some(Health::Busy(3_600_000)), Uptime(0), 0);
    assert!(put_off.iter().all(|(_, delay_ms)| *delay_ms == HOOK_LANE_BUSY_MS_MAX));
    assert_eq!(lanes.offer("shared", 3, Uptime(HOOK_LANE_BUSY_MS_MAX)), None);
}

#[test]
fn lanes_that_have_nothing_to_do_are_forgotten() {
    let mut lanes = lanes();
    for number in 0..3 * HOOK_LANES_MAX {
        let name = format!("host-{number}");
        assert_eq!(lanes.offer(&name, 1, Uptime(0)), None);
        lanes.next(Uptime(0)).expect("its turn");
        lanes.end(&name, Uptime(0), Some(Health::Unwell), Uptime(0), 0);
        assert!(lanes.lanes.len() <= HOOK_LANES_MAX);
    }
}
