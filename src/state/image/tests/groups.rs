//! Images of groups on this server.

use super::*;
use crate::limits::GROUP_CALLERS_MAX;
use crate::record::releases::{CallKey, ChangedGroup, Presence};
use crate::state::groups::{Call, Effect, Group};

/// A state with groups that are there and some that have gone, called for under keys or without.
fn with_groups() -> State {
    let mut state = state();
    state.bereft_until = None;
    for (group, presence, key) in [
        ("a", Presence::Present, Some("k")),
        ("a", Presence::Present, Some("0123456789abcdef0123456789abcdef/7/0/2")),
        ("a", Presence::Absent, None),
        ("b", Presence::Present, None),
        ("c", Presence::Absent, Some("0123456789abcdef0123456789abcdef/7/0/4294967295")),
        ("é/ ", Presence::Present, Some("k")),
    ] {
        let group = group.parse().expect("well formed");
        let changed = ChangedGroup { group, presence, by: key.map(CallKey::of) };
        let record = Record { at: state.at(), fact: Fact::GroupChanged(changed) };
        state.apply(state.lsn().next(), &record);
    }
    state
}

fn known(presence: Presence, keys: &[&str]) -> Group {
    let call = |key: &&str| Call { key: CallKey::of(key), aim: presence, effect: Effect::Changed };
    Group { presence, last: Lsn(1), calls: keys.iter().map(call).collect() }
}

/// What becomes of an image to which somebody has added this.
fn decoded_with(group: Group) -> Result<Image, ImageError> {
    let mut image = with_groups().image(Lsn(1000));
    image.groups.put("z".parse().expect("well formed"), group);
    let mut bytes = Vec::new();
    image.encode(&mut bytes);
    Image::decode(&bytes)
}

#[test]
fn groups_read_back_as_the_same_state_and_the_same_bytes() {
    let state = with_groups();
    let bytes = encoded(&state);
    assert_eq!(bytes[0], 3);
    let resumed = State::resume(Image::decode(&bytes).expect("what was encoded decodes"));
    resumed.check_invariants();
    assert_eq!(resumed.digest(), state.digest());
    assert_eq!(resumed.groups().groups, state.groups().groups);
    assert_eq!(resumed.groups().len(), 2);
    assert_eq!(encoded(&resumed), bytes);
}

#[test]
fn an_image_without_groups_has_no_more_bytes_than_before() {
    assert_eq!(encoded(&state())[0], 1);
}

#[test]
fn cut_and_flipped_groups_are_errors_or_another_image_and_never_a_panic() {
    let (bytes, before) = (encoded(&with_groups()), encoded(&state()).len());
    for len in 0..bytes.len() {
        assert!(Image::decode(&bytes[..len]).is_err(), "cut to {len} bytes");
    }
    for bit in before * 8..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(image) = Image::decode(&flipped) {
            State::resume(image).groups().check_invariants();
        }
    }
}

#[test]
fn groups_of_which_more_is_known_than_can_be_are_refused() {
    assert!(decoded_with(known(Presence::Present, &[])).is_ok());
    assert!(decoded_with(known(Presence::Absent, &["k"])).is_ok());
    let many: Vec<String> = (0..=GROUP_CALLERS_MAX).map(|number| format!("k{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(decoded_with(known(Presence::Absent, &many[1..])).is_ok());
    let later = Group { last: Lsn(u64::MAX), ..known(Presence::Present, &[]) };
    for wrong in [
        known(Presence::Absent, &[]),
        known(Presence::Absent, &["k", "k"]),
        known(Presence::Present, &many),
        later,
    ] {
        let refused = decoded_with(wrong.clone());
        assert!(matches!(refused, Err(ImageError::Contradiction { .. })), "{wrong:?}");
    }
}
