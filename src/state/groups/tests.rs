use super::*;

const STORE: &str = "0123456789abcdef0123456789abcdef";

fn id(name: &str) -> GroupId {
    name.parse().expect("a plain name")
}

fn key(rest: &str) -> CallKey {
    CallKey::of(&format!("{STORE}/{rest}"))
}

fn change(groups: &mut Groups, lsn: u64, presence: Presence, by: Option<CallKey>) {
    groups.change(Lsn(lsn), &ChangedGroup { group: id("g"), presence, by });
    groups.check_invariants();
}

fn turn(groups: &Groups, key: &CallKey) -> &'static str {
    match groups.get(&id("g")).map_or(Turn::New, |group| group.turn(key)) {
        Turn::New => "new",
        Turn::Repeated(_) => "repeated",
        Turn::Late(_) => "late",
    }
}

#[test]
fn a_call_without_a_key_leaves_nothing_of_what_is_gone() {
    let mut groups = Groups::default();
    change(&mut groups, 1, Presence::Present, None);
    assert_eq!((groups.len(), groups.presence(&id("g"))), (1, Presence::Present));
    change(&mut groups, 2, Presence::Absent, None);
    assert!(groups.is_empty() && groups.is_new());
    assert_eq!(groups.digest(), 0, "as if it had never been");
}

#[test]
fn what_is_gone_leaves_its_latest_call_behind() {
    let mut groups = Groups::default();
    change(&mut groups, 1, Presence::Present, Some(key("7/0/1")));
    change(&mut groups, 2, Presence::Absent, Some(key("7/0/2")));
    assert!(groups.is_empty() && !groups.is_new());
    assert_eq!(turn(&groups, &key("7/0/1")), "late");
    assert_eq!(turn(&groups, &key("7/0/2")), "repeated");
    assert_eq!(turn(&groups, &key("7/0/3")), "new");
    assert_eq!(turn(&groups, &key("6/0/9")), "late", "of an earlier transaction");
    assert_eq!(turn(&groups, &key("8/0/1")), "new");
    assert_eq!(groups.after(None).count(), 0, "what is gone is in no list");
}

#[test]
fn a_call_that_found_nothing_to_undo_keeps_what_it_undoes_away() {
    let mut groups = Groups::default();
    change(&mut groups, 1, Presence::Absent, Some(key("7/0/2")));
    assert_eq!(turn(&groups, &key("7/0/1")), "late");
    let known = groups.get(&id("g")).expect("its call is remembered");
    assert_eq!(known.calls[0].effect, Effect::Nothing);
}

#[test]
fn changes_by_others_do_not_make_a_call_forgotten() {
    let mut groups = Groups::default();
    change(&mut groups, 1, Presence::Present, Some(key("7/0/2")));
    change(&mut groups, 2, Presence::Absent, None);
    for other in 1..GROUP_CALLERS_MAX {
        let presence = if other % 2 == 0 { Presence::Absent } else { Presence::Present };
        change(&mut groups, 2 + other as u64, presence, Some(CallKey::of(&format!("k{other}"))));
    }
    assert_eq!(turn(&groups, &key("7/0/1")), "late");
    assert_eq!(turn(&groups, &key("7/0/2")), "repeated");
    change(&mut groups, 99, Presence::Absent, Some(CallKey::of("one too many")));
    assert_eq!(turn(&groups, &key("7/0/1")), "new", "only so many callers are remembered");
    assert_eq!(turn(&groups, &CallKey::of("k1")), "repeated");
}

#[test]
fn of_those_that_are_gone_the_latest_are_remembered() {
    let mut groups = Groups::default();
    let gone = |number: usize| ChangedGroup {
        group: id(&number.to_string()),
        presence: Presence::Absent,
        by: Some(key("7/0/2")),
    };
    let there = ChangedGroup { group: id("g"), presence: Presence::Present, by: None };
    groups.change(Lsn(1), &there);
    (0..GROUPS_GONE_MAX).for_each(|number| groups.change(Lsn(2 + number as u64), &gone(number)));
    let last = 2 + GROUPS_GONE_MAX as u64;
    // Called for once more, so no longer the oldest.
    groups.change(Lsn(last), &gone(0));
    assert!(groups.get(&id("1")).is_some());
    groups.change(Lsn(last + 1), &gone(GROUPS_GONE_MAX));
    assert!(groups.get(&id("0")).is_some() && groups.get(&id("1")).is_none());
    assert_eq!((groups.len(), groups.groups.len()), (1, 1 + GROUPS_GONE_MAX));
    groups.check_invariants();
}

#[test]
fn lists_go_on_behind_a_name_that_may_be_gone() {
    let mut groups = Groups::default();
    for (lsn, name) in (1..).zip(["b", "d", "a", "c"]) {
        let presence = Presence::Present;
        groups.change(Lsn(lsn), &ChangedGroup { group: id(name), presence, by: None });
    }
    let names = |after: Option<&str>| -> Vec<String> {
        let after = after.map(id);
        groups.after(after.as_ref()).map(ToString::to_string).collect()
    };
    assert_eq!(names(None), ["a", "b", "c", "d"]);
    assert_eq!(names(Some("b")), ["c", "d"]);
    assert_eq!(names(Some("bb")), ["c", "d"]);
    assert_eq!(names(Some("d")), [""; 0]);
}

#[test]
fn what_is_known_of_a_group_is_in_the_digest() {
    let digest = |presence, by: Option<&str>, lsn| {
        let mut groups = Groups::default();
        let by = by.map(CallKey::of);
        groups.change(Lsn(lsn), &ChangedGroup { group: id("g"), presence, by });
        groups.digest()
    };
    let base = digest(Presence::Present, Some("k"), 1);
    assert_ne!(base, digest(Presence::Absent, Some("k"), 1));
    assert_ne!(base, digest(Presence::Present, Some("l"), 1));
    assert_ne!(base, digest(Presence::Present, None, 1));
    assert_ne!(base, digest(Presence::Present, Some("k"), 2));
}
