use super::*;
use crate::engine::decide::Command;
use crate::engine::fixture::Bench;

const STORE: &str = "0123456789abcdef0123456789abcdef";
const CREATED: Outcome = Ok((Effect::Changed, Answer::First));
const EXISTS: Outcome = Ok((Effect::Nothing, Answer::First));

type Outcome = Result<(Effect, Answer), Refusal>;

fn call(bench: &mut Bench, action: Action, key: Option<&str>) -> Outcome {
    let key = key.map(|rest| CallKey::of(&format!("{STORE}/{rest}")));
    let group = "g".parse().expect("a plain name");
    match bench.run(Command::ChangeGroup(GroupCall { group, action, key })) {
        Ok(Reply::Group(reply)) => Ok((reply.effect, reply.answer)),
        Ok(other) => panic!("a call for a group is answered by {other:?}"),
        Err(refusal) => Err(refusal),
    }
}

fn is_there(bench: &Bench) -> bool {
    let group = "g".parse().expect("a plain name");
    bench.ask(|store| store.state.groups().presence(&group)) == Presence::Present
}

fn lsn(bench: &Bench) -> u64 {
    bench.ask(|store| store.state.lsn().0)
}

#[test]
fn without_keys_only_changes_are_recorded() {
    let mut bench = Bench::new();
    let before = lsn(&bench);
    assert_eq!(call(&mut bench, Action::Delete, None), EXISTS);
    assert_eq!(call(&mut bench, Action::Create, None), CREATED);
    assert_eq!(call(&mut bench, Action::Create, None), EXISTS);
    assert_eq!(call(&mut bench, Action::Delete, None), CREATED);
    assert_eq!(call(&mut bench, Action::Delete, None), EXISTS);
    assert_eq!(lsn(&bench), before + 2);
}

#[test]
fn a_call_that_comes_twice_gets_its_answer_again() {
    let mut bench = Bench::new();
    let again = |effect| Ok((effect, Answer::Replayed));
    assert_eq!(call(&mut bench, Action::Create, Some("7/0/1")), CREATED);
    assert_eq!(call(&mut bench, Action::Create, Some("7/0/1")), again(Effect::Changed));
    assert_eq!(call(&mut bench, Action::Create, Some("8/0/1")), EXISTS);
    let before = lsn(&bench);
    // Also when the group has gone meanwhile: it is an answer, not another call.
    assert_eq!(call(&mut bench, Action::Delete, None), CREATED);
    assert_eq!(call(&mut bench, Action::Create, Some("8/0/1")), again(Effect::Nothing));
    assert_eq!(lsn(&bench), before + 1);
    assert!(!is_there(&bench));
    bench = bench.reopen();
    assert_eq!(call(&mut bench, Action::Create, Some("8/0/1")), again(Effect::Nothing));
    bench.compact();
    bench = bench.reopen();
    assert_eq!(call(&mut bench, Action::Create, Some("8/0/1")), again(Effect::Nothing));
    assert_eq!(call(&mut bench, Action::Delete, Some("8/0/1")), Err(Refusal::KeyReused));
}

#[test]
fn a_call_that_arrives_after_its_undo_does_nothing() {
    for is_made_before in [true, false] {
        let mut bench = Bench::new();
        if is_made_before {
            assert_eq!(call(&mut bench, Action::Create, Some("7/0/1")), CREATED);
        }
        let undone = if is_made_before { CREATED } else { EXISTS };
        assert_eq!(call(&mut bench, Action::Delete, Some("7/0/2")), undone);
        assert_eq!(call(&mut bench, Action::Create, Some("7/0/1")), Err(Refusal::CallLate));
        bench = bench.reopen();
        assert_eq!(call(&mut bench, Action::Create, Some("7/0/1")), Err(Refusal::CallLate));
        bench.compact();
        bench = bench.reopen();
        assert_eq!(call(&mut bench, Action::Create, Some("7/0/1")), Err(Refusal::CallLate));
        assert!(!is_there(&bench));
        assert_eq!(call(&mut bench, Action::Create, Some("7/0/3")), CREATED);
        assert!(is_there(&bench));
    }
}

#[test]
fn a_delete_that_arrives_after_its_undo_takes_nothing_away() {
    let mut bench = Bench::new();
    assert_eq!(call(&mut bench, Action::Create, None), CREATED);
    assert_eq!(call(&mut bench, Action::Create, Some("7/0/2")), EXISTS);
    assert_eq!(call(&mut bench, Action::Delete, Some("7/0/1")), Err(Refusal::CallLate));
    assert_eq!(call(&mut bench, Action::Delete, Some("6/0/3")), Err(Refusal::CallLate));
    assert!(is_there(&bench));
}

#[test]
fn there_are_only_so_many_groups() {
    let mut state = State::default();
    let at = state.at();
    for number in 1..=GROUPS_MAX as u64 {
        let group = number.to_string().parse().expect("plain");
        let changed = ChangedGroup { group, presence: Presence::Present, by: None };
        let record = crate::record::Record { at, fact: Fact::GroupChanged(changed) };
        state.apply(crate::ids::Lsn(number), &record);
    }
    let call =
        |name: &str, action| GroupCall { group: name.parse().expect("plain"), action, key: None };
    assert!(matches!(decide(&state, call("g", Action::Create)), Err(Refusal::GroupsFull)));
    assert!(matches!(decide(&state, call("1", Action::Create)), Ok(Verdict::Known(_))));
    assert!(matches!(decide(&state, call("1", Action::Delete)), Ok(Verdict::Record(..))));
    assert!(matches!(decide(&state, call("g", Action::Delete)), Ok(Verdict::Known(_))));
}
