//! What came since the base, in layers.
//!
//! While a snapshot is being written, what it will hold must stay where readers find it, and
//! what comes meanwhile must be told apart from it. So the layer that grows is laid aside as it
//! is, which costs the same however large it is, and an empty one is begun:
//!
//! ```text
//!   young        changed by every record
//!   older …      as they were when laid aside; newest last
//!   ─────
//!   base         the snapshot: not here
//! ```
//!
//! When the snapshot stands, the layers that it holds are handed out as a whole, and the caller
//! frees them where nobody waits. When it came to nothing, they stay, and the next one covers
//! them too.

use crate::limits::STATE_LAYERS_MAX;

/// A layer that can take in the one above it.
pub(super) trait Layer: Default {
    /// Takes in a layer that is newer than this one.
    fn absorb(&mut self, newer: Self);
}

/// Layers of one kind.
///
/// Invariants: there are at most [`STATE_LAYERS_MAX`] older ones; the first `frozen` of them are
/// being put into a snapshot.
#[derive(Clone, Debug, Default)]
pub(super) struct Layers<L> {
    older: Vec<L>,
    frozen: usize,
    young: L,
}

impl<L: Layer> Layers<L> {
    /// The layer that records change.
    pub(super) fn young_mut(&mut self) -> &mut L {
        &mut self.young
    }

    /// All layers, the newest first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = &L> + Clone {
        std::iter::once(&self.young).chain(self.older.iter().rev())
    }

    /// All layers, the oldest first.
    pub(super) fn oldest_first(&self) -> impl Iterator<Item = &L> + Clone {
        self.older.iter().chain(std::iter::once(&self.young))
    }

    /// Lays the young layer aside. Only after `STATE_LAYERS_MAX` snapshots in a row that came to
    /// nothing does this take time in proportion to what the young layer holds.
    ///
    /// # Panics
    /// If layers are frozen already.
    pub(super) fn freeze(&mut self) {
        assert_eq!(self.frozen, 0, "one snapshot is made at a time");
        let young = std::mem::take(&mut self.young);
        if self.older.len() == STATE_LAYERS_MAX {
            self.older.last_mut().expect("the maximum is not zero").absorb(young);
        } else {
            self.older.push(young);
        }
        self.frozen = self.older.len();
    }

    /// The snapshot came to nothing: the layers stay.
    pub(super) fn thaw(&mut self) {
        self.frozen = 0;
    }

    /// The frozen layers, which the snapshot now holds.
    pub(super) fn take_frozen(&mut self) -> Vec<L> {
        let rest = self.older.split_off(std::mem::take(&mut self.frozen));
        std::mem::replace(&mut self.older, rest)
    }
}
