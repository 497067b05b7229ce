//! What is looked at between reigns, and the compactions that go on meanwhile.

use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError};

use sillage::engine::base::Base;
use sillage::engine::compactor::compact;
use sillage::engine::core::Core;
use sillage::engine::open::{OpenError, replay, resume};
use sillage::ids::Lsn;
use sillage::log::{self, prepare};
use sillage::record::Fact;
use sillage::state::State;

use crate::model::checked;
use crate::world::{World, options};

impl World {
    /// Replays a copy of the disk beside the live state, and compares with what was acknowledged.
    pub(crate) fn check(&mut self, core: &Core) {
        let shared = core.store();
        let store = shared.read().unwrap_or_else(PoisonError::into_inner);
        let live = &store.state;
        live.check_invariants();
        self.model.check(&store);
        // What was not durable at the crash is gone, and its LSNs are given anew.
        let opened = live.lsn();
        self.digests.retain(|lsn, _| *lsn < opened);
        let prepared = prepare(Arc::new(self.disk.fork()), options()).expect("it can be read");
        let base = prepared.snapshot().cloned().map(Base::new);
        let mut replayed = match &base {
            Some(base) => resume(base).expect("it can be read"),
            None => State::default(),
        };
        if replayed.base() > Lsn::ZERO {
            self.tally.resumed += 1;
        }
        let reopened = prepared.replay(|entry| {
            replay(&mut replayed, base.as_ref(), &entry)?;
            if let Some(digest) = self.digests.get(&entry.lsn) {
                assert_eq!(replayed.digest(), *digest, "replay differs at record {}", entry.lsn);
                self.tally.compared_digests += 1;
            }
            Ok::<(), OpenError>(())
        });
        assert!(reopened.is_ok(), "a copy of an open store can be opened");
        assert_eq!(replayed.digest(), live.digest(), "replay leads to the live state");
        self.digests.insert(opened, live.digest());
        self.durable = opened;
    }

    /// Every acknowledged formula reads back as it was sent.
    pub(crate) fn check_bodies(&mut self, core: &Core) {
        let base = core.snapshot().lsn;
        for (&make_up, &lsn) in &self.model.formulas {
            let kept = core.read(lsn).expect("it can be read").expect("and is there");
            let Fact::FormulaAccepted(accepted) = kept.record.fact else {
                panic!("record {lsn} is another fact")
            };
            assert_eq!(accepted.formula, checked(make_up).formula);
            self.tally.read_from_snapshot += u64::from(lsn <= base);
        }
    }

    /// Begins a compaction, or carries on with the one that was begun. Breaks if the log failed.
    pub(crate) fn compact(&mut self, core: &mut Core) -> ControlFlow<()> {
        let Some(task) = self.compaction.take() else {
            return match core.begin_compaction(Arc::default()) {
                Ok(task) => {
                    self.compaction = task;
                    self.durable = core.log().durable().lsn;
                    ControlFlow::Continue(())
                }
                Err(log::Error::NoSpace) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            };
        };
        match compact(&task) {
            Ok(compacted) => {
                let installed = core.install(compacted);
                let Ok((let_go, obsolete)) = installed else { return ControlFlow::Break(()) };
                drop(let_go);
                self.tally.snapshots += 1;
                // A failure only leaves files that the next start removes.
                drop(obsolete.remove());
            }
            Err(error) => {
                let is_explained = self.is_hindered || error.is_no_space();
                assert!(is_explained, "nothing hinders a compaction: {error}");
                self.tally.snapshots_failed += 1;
                core.abandon();
            }
        }
        ControlFlow::Continue(())
    }
}
