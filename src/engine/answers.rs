//! Answers to submissions: what was decided, with the formulas that it names read from disk.
//!
//! Between a decision and the reading of what it names, the formula may be withdrawn, and a
//! snapshot may take over that keeps nothing of it. What was decided is then no longer true, and
//! it is decided again, on what is stored now. Where the writer has consumed the submission, the
//! client is asked to send it again: nothing was stored.
//!
//! A batch that is asked for again under its key may name a record that was lost, with the
//! operator's consent, from a damaged log. Its first answer cannot be given any more. Then each
//! of its formulas is answered as it stands now, and what was lost is stored anew.

use super::decide::{self, ItemRaw, Original, Refusal, Reply};
use super::findings::Wanted;
use crate::engine::Engine;
use crate::engine::command::{
    Accepted, Answer, Batch, BatchReply, Culprit, ItemReply, Rejection, Repeated, StoredFormula,
    Submission,
};
use crate::engine::core::Decided;
use crate::engine::decide::Command;
use crate::engine::findings::Findings;
use crate::ids::Lsn;
use crate::limits::DECISIONS_MAX;
use crate::record::{Fact, ItemOutcome};

impl Engine {
    /// Stores a formula.
    ///
    /// # Errors
    /// `Duplicate`, `KeyReused`, `Overloaded`, `DiskFull`, `OutcomeUnknown`, `Damaged`,
    /// `Forgotten`.
    pub async fn accept(&self, submission: Submission) -> Result<Accepted, Rejection> {
        let mut decisions = 0;
        loop {
            let findings = self.findings(|store| Wanted::by_submission(&submission, store));
            let findings = findings.await?;
            let Some(pending) = self.foregone(&submission, &findings) else {
                let decided = self.execute(Command::Accept(submission), findings).await?;
                return self.accepted(decided).await;
            };
            let decided = self.shared.durable.wait(pending).await?;
            decisions += 1;
            match self.accepted(decided).await {
                Err(Rejection::Forgotten(_)) if decisions < DECISIONS_MAX => {}
                answer => return answer,
            }
        }
    }

    /// Stores several formulas.
    ///
    /// # Errors
    /// `Culprits`, `KeyReused`, `Overloaded`, `DiskFull`, `OutcomeUnknown`, `Damaged`,
    /// `Forgotten`.
    pub async fn accept_batch(&self, mut batch: Batch) -> Result<BatchReply, Rejection> {
        let mut missed = None;
        let findings = loop {
            let findings = self.findings(|store| Wanted::by_batch(&batch, store)).await?;
            let Some(pending) = self.replay_of(&batch, &findings) else { break findings };
            let lsn = self.shared.durable.wait(pending).await?;
            if missed == Some(lsn) {
                // Nor will it be there the next time. The key stays spent on that answer.
                tracing::warn!(%lsn, "a batch is decided anew: a record that it names was lost");
                batch.key = None;
                break findings;
            }
            match self.replayed_batch(lsn).await {
                Err(Rejection::Forgotten(_)) => missed = Some(lsn),
                answer => return answer,
            }
        };
        self.decide_batch(batch, findings).await
    }

    async fn decide_batch(
        &self,
        batch: Batch,
        findings: Findings,
    ) -> Result<BatchReply, Rejection> {
        let request_id = batch.request_id.clone();
        let decided = self.execute(Command::AcceptBatch(batch), findings).await?;
        match self.resolve(decided).await? {
            Reply::Batch(raw) => {
                let mut items = Vec::with_capacity(raw.len());
                for item in raw {
                    items.push(self.item(item).await?);
                }
                Ok(BatchReply { items, answer: Answer::First, request_id })
            }
            Reply::BatchReplayed(lsn) => self.replayed_batch(lsn).await,
            other => unreachable!("a batch is not answered by {other:?}"),
        }
    }

    /// The answer to a submission. `Forgotten`: it is to be decided again.
    async fn accepted(&self, decided: Decided) -> Result<Accepted, Rejection> {
        let (stored, answer) = match self.resolve(decided).await? {
            Reply::Accepted(stored) => {
                self.shared.metrics.accepted.inc();
                (stored, Answer::First)
            }
            Reply::Replayed(lsn) => (self.bodies.formula(lsn).await?, Answer::Replayed),
            other => unreachable!("a submission is not answered by {other:?}"),
        };
        Ok(Accepted { stored, answer })
    }

    /// The reply; or the refusal, with the formulas that it names read from disk.
    pub(super) async fn resolve(&self, decided: Decided) -> Result<Reply, Rejection> {
        let refusal = match decided {
            Ok(reply) => return Ok(reply),
            Err(refusal) => refusal,
        };
        Err(match refusal {
            Refusal::Duplicate(lsn) => Rejection::Duplicate(self.duplicate(lsn).await?),
            Refusal::Culprits(culprits) => {
                let mut named = Vec::with_capacity(culprits.len());
                for (index, original) in culprits {
                    let repeats = match original {
                        Original::Stored(lsn) => Repeated::Stored(self.bodies.formula(lsn).await?),
                        Original::Item(earlier) => Repeated::Item(earlier),
                    };
                    named.push(Culprit { index, repeats });
                }
                Rejection::Culprits(named)
            }
            Refusal::KeyReused => Rejection::KeyReused,
            Refusal::FormulaUnknown => Rejection::FormulaUnknown,
            Refusal::QueueUnknown => Rejection::QueueUnknown,
            Refusal::ReceiptsStale(stale) => Rejection::ReceiptsStale(stale),
            Refusal::CallLate => Rejection::CallLate,
            Refusal::GroupsFull => Rejection::GroupsFull,
            Refusal::HookUnknown => Rejection::HookUnknown,
            Refusal::HookDisabled => Rejection::HookDisabled,
            Refusal::HooksFull => Rejection::HooksFull,
            Refusal::DeliveryUnknown => Rejection::DeliveryUnknown,
            Refusal::DeliveryWaiting => Rejection::DeliveryWaiting,
            Refusal::SealsFull { retry_after_s } => Rejection::SealsFull { retry_after_s },
            Refusal::GroupHeld { by } => Rejection::GroupHeld { by },
            Refusal::TransactionUnknown => Rejection::TransactionUnknown,
            Refusal::TransactionOver => Rejection::TransactionOver,
            Refusal::TransactionsFull => Rejection::TransactionsFull,
            Refusal::DiskFull => Rejection::DiskFull,
            Refusal::Unreadable => {
                self.shared.metrics.damaged_reads.inc();
                Rejection::Damaged(self.look().0.state.base())
            }
        })
    }

    /// The formula that another one repeats.
    async fn duplicate(&self, lsn: Lsn) -> Result<StoredFormula, Rejection> {
        let stored = self.bodies.formula(lsn).await?;
        self.shared.metrics.duplicates.inc();
        Ok(stored)
    }

    async fn item(&self, raw: ItemRaw) -> Result<ItemReply, Rejection> {
        let reply =
            match raw {
                ItemRaw::Accepted(stored) => {
                    self.shared.metrics.accepted.inc();
                    return Ok(ItemReply::Accepted(Accepted { stored, answer: Answer::First }));
                }
                ItemRaw::Replayed(lsn) => self.bodies.formula(lsn).await.map(|stored| {
                    ItemReply::Accepted(Accepted { stored, answer: Answer::Replayed })
                }),
                ItemRaw::Duplicate(lsn) => self.duplicate(lsn).await.map(ItemReply::Duplicate),
                ItemRaw::KeyReused => Ok(ItemReply::KeyReused),
                ItemRaw::Invalid(problem) => Ok(ItemReply::Invalid(problem)),
            };
        match reply {
            // Others of the batch may be stored, so it is this one alone that is sent again.
            Err(Rejection::Forgotten(lsn)) => Ok(ItemReply::Forgotten(lsn)),
            reply => reply,
        }
    }

    /// The answer that the record at `lsn` holds. `Forgotten`: that one or one that it names is
    /// not there any more.
    async fn replayed_batch(&self, lsn: Lsn) -> Result<BatchReply, Rejection> {
        let record = self.bodies.find(lsn).await?.ok_or(Rejection::Forgotten(lsn))?.record;
        let Fact::BatchAnswered { outcomes, preceding, request_id, .. } = record.fact else {
            // The key was spent on a single formula by a request of the same bytes and route,
            // which the index cannot confuse with a batch.
            return Err(Rejection::Damaged(lsn));
        };
        let first = Lsn(lsn.0 - u64::from(preceding));
        let mut items = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            items.push(match outcome {
                ItemOutcome::Accepted(place) => {
                    let stored = self.bodies.named(decide::in_group(first, place)).await?;
                    ItemReply::Accepted(Accepted { stored, answer: Answer::Replayed })
                }
                ItemOutcome::Repeats(place) => {
                    let lsn = decide::in_group(first, place);
                    ItemReply::Duplicate(self.bodies.named(lsn).await?)
                }
                ItemOutcome::Duplicate(lsn) => ItemReply::Duplicate(self.bodies.named(lsn).await?),
                ItemOutcome::Invalid(problem) => ItemReply::Invalid(problem),
            });
        }
        Ok(BatchReply { items, answer: Answer::Replayed, request_id })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::command::{
        BatchMode, FormulaRef, Item, LeaseRequest, RequestKey, Settlement,
    };
    use crate::engine::fixture::{Bench, fingerprint, queue, submission};
    use crate::ids::MessageId;
    use crate::log::{Disk, SimDisk, repair};

    const KEY: RequestKey = RequestKey { key: [1; 32], request: [2; 32] };

    /// Stores a make-up, withdraws it, and has a snapshot forget it.
    async fn forgotten(engine: &Engine, make_up: u32) -> Lsn {
        let lsn = engine.accept(submission(make_up, None)).await.expect("it is new").stored.lsn;
        engine.withdraw(FormulaRef::Seq(lsn)).await.expect("it is stored");
        let wish = LeaseRequest { queue: queue(), messages_max: 9, lease_ms: 1000 };
        let leased = engine.lease(wish).await.expect("the withdrawal waits");
        let receipts = leased.iter().map(|delivery| delivery.receipt).collect();
        engine.settle(queue(), receipts, Settlement::Ack).await.expect("it is leased");
        engine.snapshot().await.expect("the disk works");
        lsn
    }

    fn batch(make_ups: &[u32]) -> Batch {
        let items = make_ups.iter().map(|it| Item::Valid(submission(*it, None))).collect();
        let (mode, key) = (BatchMode::PerItem, Some(KEY));
        Batch { items, mode, key, request_id: "r".into() }
    }

    #[tokio::test]
    async fn what_is_forgotten_before_it_is_shown_is_neither_damage_nor_an_answer() {
        let engine = Bench::new().start();
        let lsn = forgotten(&engine, 1).await;
        let decided = Err(Refusal::Duplicate(lsn));
        assert_eq!(engine.accepted(decided).await, Err(Rejection::Forgotten(lsn)));
        let replayed = Ok(Reply::Replayed(lsn));
        assert_eq!(engine.accepted(replayed).await, Err(Rejection::Forgotten(lsn)));
        let item = engine.item(ItemRaw::Duplicate(lsn)).await;
        assert_eq!(item, Ok(ItemReply::Forgotten(lsn)));
        assert_eq!(engine.message(&queue(), MessageId(lsn)).await, Ok(None));
        assert_eq!(engine.shared.metrics.damaged_reads.get(), 0);
        assert_eq!(engine.shared.metrics.duplicates.get(), 0, "nobody was told so");
        let again = engine.accept(submission(1, None)).await.expect("it is new again");
        assert!(again.stored.lsn > lsn);
        // Above the snapshot nothing is forgotten: what is not there is damage.
        let beyond = Lsn(again.stored.lsn.0 + 100);
        let decided = Err(Refusal::Duplicate(beyond));
        assert_eq!(engine.accepted(decided).await, Err(Rejection::Damaged(beyond)));
    }

    #[tokio::test]
    async fn batch_that_names_a_lost_record_is_decided_anew_and_stores_what_was_lost() {
        let disk = SimDisk::new(1);
        let mut bench = Bench::on_disk(disk.handle());
        let lost = bench.accept(1);
        // The next segment begins, so that nothing else is lost.
        let task = bench.core.begin_compaction(Arc::default()).expect("the disk works");
        let upto = task.expect("there is something new").upto;
        bench.core.abandon();
        let engine = bench.start();
        let first = engine.accept_batch(batch(&[1, 2])).await.expect("it is carried out");
        assert!(matches!(&first.items[0], ItemReply::Duplicate(it) if it.lsn == lost));
        let again = engine.accept_batch(batch(&[1, 2])).await.expect("it is told again");
        assert_eq!(again.answer, Answer::Replayed);
        drop(engine);

        let disk = disk.crash(1);
        let name = format!("{:04}", 1);
        let path = disk.paths().into_iter().find(|path| path.contains("log/")).expect(&name);
        let bytes = disk.bytes(&path).expect("it is there");
        let at = bytes.windows(5).position(|it| it == b"No. 1").expect("its body");
        disk.flip(&path, at as u64 * 8);
        let as_disk: Arc<dyn Disk> = Arc::new(disk.handle());
        repair(&as_disk, Some(Lsn(1)..=upto)).expect("the loss is accepted");
        drop(as_disk);
        let engine = Bench::on_disk(disk).start();
        assert_eq!(engine.find_duplicate(&fingerprint(1)).await, Ok(None), "it is lost");
        let anew = engine.accept_batch(batch(&[1, 2])).await.expect("it is decided");
        assert_eq!(anew.answer, Answer::First);
        assert!(matches!(&anew.items[0], ItemReply::Accepted(_)), "{anew:?}");
        assert!(matches!(&anew.items[1], ItemReply::Duplicate(_)), "{anew:?}");
        // And once more: the key still stands for an answer that cannot be given.
        let anew = engine.accept_batch(batch(&[1, 2])).await.expect("it is decided");
        assert!(anew.items.iter().all(|item| matches!(item, ItemReply::Duplicate(_))));
    }
}
