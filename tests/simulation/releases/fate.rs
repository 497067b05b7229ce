//! What becomes of a call to a node, by chance and by how the node is.

use sillage::limits::NODE_CONNECT_SHARE;

/// How a node is for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// It does what it is asked, nearly always.
    Well,
    /// It fails with 500, before or after it has done something.
    Broken,
    /// It answers too late, or not at all.
    Slow,
    /// Nobody can connect.
    Down,
    /// It refuses whatever it is asked to do.
    Refusing,
    /// It answers what nobody understands.
    Garbled,
    /// It does not tell what it has.
    Blind,
    /// Every other call gets through.
    Flapping,
    /// Something in between sends calls twice.
    Doubling,
}

const BAD: [Weather; 8] = [
    Weather::Broken,
    Weather::Slow,
    Weather::Down,
    Weather::Refusing,
    Weather::Garbled,
    Weather::Blind,
    Weather::Flapping,
    Weather::Doubling,
];

impl Weather {
    /// Another one, and for how many ms: seldom for a long time.
    pub fn some(random: &mut fastrand::Rng, is_stormy: bool) -> (Weather, u64) {
        let is_bad = random.u8(..10) < if is_stormy { 7 } else { 3 };
        let weather = if is_bad { BAD[random.usize(..BAD.len())] } else { Weather::Well };
        let longest_ms = if random.u8(..6) == 0 { 90_000 } else { 8_000 };
        (weather, random.u64(100..longest_ms))
    }

    /// How it is for one call.
    pub fn now(self, random: &mut fastrand::Rng) -> Weather {
        match self {
            Weather::Flapping if random.bool() => Weather::Down,
            Weather::Flapping => Weather::Well,
            Weather::Well if random.u8(..24) == 0 => BAD[random.usize(..BAD.len())],
            other => other,
        }
    }
}

/// What the caller is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// What the node did.
    Truth,
    /// 403.
    Refusal,
    /// Something that says nothing.
    Nothing,
    /// That nothing was sent.
    Unsent,
}

/// What becomes of a call. All times are in ms; those of effects from when it is sent.
#[derive(Clone, Debug)]
pub struct Fate {
    /// From the beginning until it is sent, when its connection is there.
    pub sent_ms: u64,
    /// When it reaches the node: within the deadline, unless the node sorts out what is late.
    pub effects_ms: Vec<u64>,
    /// From when it is sent until it ends.
    pub ends_ms: u64,
    pub given: Given,
}

/// Whether a node sorts out, by their keys, calls that come late or twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    Honoured,
    Ignored,
}

impl Fate {
    /// Of a call that takes at most `deadline_ms`.
    pub fn some(
        random: &mut fastrand::Rng,
        weather: Weather,
        keys: Keys,
        deadline_ms: u64,
    ) -> Fate {
        let sent_ms = random.u64(0..=deadline_ms / NODE_CONNECT_SHARE);
        let longest_ms = deadline_ms - sent_ms;
        let ends_ms = random.u64(2..=longest_ms);
        let in_time = random.u64(0..ends_ms);
        let ends = |effects_ms, given| Fate { sent_ms, effects_ms, ends_ms, given };
        let mut fate = match weather {
            Weather::Well | Weather::Blind | Weather::Flapping => ends(vec![in_time], Given::Truth),
            Weather::Broken | Weather::Garbled => match random.u8(..3) {
                0 => ends(vec![], Given::Nothing),
                1 => ends(vec![in_time], Given::Nothing),
                // What broke was not the part that does it.
                _ => ends(vec![random.u64(0..deadline_ms)], Given::Nothing),
            },
            Weather::Slow => Fate { ends_ms: longest_ms, ..slow(random, sent_ms, deadline_ms) },
            Weather::Down => Fate { effects_ms: vec![], ..ends(vec![], Given::Unsent) },
            Weather::Refusing => ends(vec![], Given::Refusal),
            Weather::Doubling => {
                let again = random.u64(in_time..ends_ms);
                ends(vec![in_time, again], Given::Truth)
            }
        };
        if keys == Keys::Honoured && random.u8(..4) == 0 && !fate.effects_ms.is_empty() {
            fate.effects_ms.push(random.u64(0..6 * deadline_ms));
        }
        fate
    }
}

/// Its effect comes before the caller gives up, after that, at the last moment, or never.
fn slow(random: &mut fastrand::Rng, sent_ms: u64, deadline_ms: u64) -> Fate {
    let effects_ms = match random.u8(..4) {
        0 => vec![],
        1 => vec![random.u64(0..deadline_ms)],
        2 => vec![random.u64(deadline_ms - sent_ms..=deadline_ms).min(deadline_ms - 1)],
        _ => vec![deadline_ms - 1],
    };
    Fate { sent_ms, effects_ms, ends_ms: deadline_ms, given: Given::Nothing }
}
