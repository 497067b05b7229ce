//! One group on all nodes or on none, for Rust code that holds an engine: begin and wait.

use crate::engine::Engine;
use crate::engine::command::Rejection;
use crate::engine::releases::{NewTransaction, Transaction};
use crate::ids::Lsn;

/// A transaction that has come to an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coordinated {
    /// Its id.
    pub id: Lsn,
    /// How it stands: its phase is `Phase::Ended`, and each node says how it ended there. One that
    /// has failed is healed later; `Engine::transaction` tells when.
    pub transaction: Transaction,
}

impl Engine {
    /// Creates or deletes a group on all partner nodes or on none, and waits until that has
    /// succeeded, was rolled back, or has failed.
    ///
    /// The transaction is on record before the first node is called. Whoever stops waiting, by
    /// dropping the future or in a crash, does not stop it: it goes on in this process, or in the
    /// next that opens the store. Under a key of `new` a repetition waits for the first one's end
    /// instead of beginning another.
    ///
    /// This does not call the nodes: the worker that does
    /// ([`workers::releaser`](crate::workers)) has to run in the process, as it does in `serve`;
    /// without it the wait has no end. Nor does it bound the wait: a transaction whose nodes are
    /// down takes minutes to be given up. Wrap it in a timeout where that matters.
    ///
    /// # Errors
    /// As [`Engine::begin_transaction`]; and `TransactionUnknown` if so many others have ended
    /// meanwhile that this one is not remembered.
    ///
    /// # Examples
    ///
    /// ```
    /// use sillage::engine::Engine;
    /// use sillage::engine::command::Rejection;
    /// use sillage::engine::releases::{Action, End, NewTransaction, Partners, Phase};
    /// use sillage::ids::GroupId;
    ///
    /// /// Whether the group is on all three nodes now.
    /// async fn publish(engine: &Engine, group: GroupId) -> Result<bool, Rejection> {
    ///     let nodes = ["http://10.0.0.1:5000", "http://10.0.0.2:5000", "http://10.0.0.3:5000"];
    ///     let partners = Partners { nodes: nodes.map(Into::into).into(), deadline_ms: 5000 };
    ///     let new = NewTransaction { group, action: Action::Create, partners, key: None };
    ///     let coordinated = engine.coordinate(new).await?;
    ///     for (url, node) in nodes.iter().zip(&coordinated.transaction.nodes) {
    ///         println!("{url}: {}", node.outcome().name());
    ///     }
    ///     Ok(coordinated.transaction.phase == Phase::Ended(End::Succeeded))
    /// }
    /// # let group: GroupId = "lavender".parse().expect("a name");
    /// # let _ = |engine: Engine| async move { publish(&engine, group).await };
    /// ```
    pub async fn coordinate(&self, new: NewTransaction) -> Result<Coordinated, Rejection> {
        let (id, _) = self.begin_transaction(new).await?;
        let ended = self.watch_transaction(id).ended().await?;
        let transaction = ended.ok_or(Rejection::TransactionUnknown)?;
        Ok(Coordinated { id, transaction })
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;
    use crate::engine::command::RequestKey;
    use crate::engine::fixture::Bench;
    use crate::engine::releases::{
        Action, End, News, NodeAnswer, NodeOutcome, Partners, Phase, Presence, Seen, Sight, Step,
        Task,
    };
    use crate::ids::QueueName;

    const REFUSING: u8 = 1;

    fn new(key: Option<RequestKey>) -> NewTransaction {
        let nodes = ["http://a:1", "http://b:1", "http://c:1"].map(Into::into).into();
        let partners = Partners { nodes, deadline_ms: 5000 };
        let group = "lavender".parse().expect("a name");
        NewTransaction { group, action: Action::Create, partners, key }
    }

    /// Plays the worker for one transaction: nodes that do as they are told, but for `refusing`.
    async fn play(engine: &Engine, refusing: Option<u8>) {
        let queue: QueueName = QueueName::RELEASES.parse().expect("a name of ours");
        let arrivals = engine.arrivals(&queue).expect("a built-in queue");
        let message = loop {
            let mut arrival = pin!(arrivals.notified());
            arrival.as_mut().enable();
            let leased = engine.lease_releases(1, 1, 60_000).await.expect("the log works");
            match leased.first() {
                Some(delivery) => break delivery.receipt.message,
                None => arrival.await,
            }
        };
        let mut course = engine.take_release(message, new(None).partners).await.expect("it waits");
        loop {
            let news = match course.task {
                Task::Look(nodes) => {
                    let absent = |node| Seen { node, sight: Sight::Told(Presence::Absent) };
                    vec![News::Seen(nodes.iter().map(absent).collect())]
                }
                Task::Call { step, nodes, .. } => {
                    let is_refused = |node| step == Step::Do && Some(node) == refusing;
                    let answer = |node| match is_refused(node) {
                        true => NodeAnswer::Refused { status: 403 },
                        false => NodeAnswer::Done,
                    };
                    let reason = Box::default;
                    let answered =
                        |node| News::Answered { node, answer: answer(node), reason: reason() };
                    nodes.iter().map(answered).collect()
                }
                Task::Over(_) => return,
                other => panic!("these nodes leave nothing open: {other:?}"),
            };
            let advanced = engine.advance_transaction(course.transaction, news);
            course = advanced.await.expect("the log works");
        }
    }

    fn outcomes(coordinated: &Coordinated) -> Vec<NodeOutcome> {
        coordinated.transaction.nodes.iter().map(|node| node.outcome()).collect()
    }

    #[tokio::test]
    async fn whoever_coordinates_is_told_of_success_at_every_node() {
        let engine = Bench::new().start();
        let (coordinated, ()) = tokio::join!(engine.coordinate(new(None)), play(&engine, None));
        let coordinated = coordinated.expect("it is carried out");
        assert_eq!(coordinated.transaction.phase, Phase::Ended(End::Succeeded));
        assert_eq!(outcomes(&coordinated), [NodeOutcome::Done; 3]);
    }

    #[tokio::test]
    async fn whoever_coordinates_is_told_what_was_undone_and_why() {
        let engine = Bench::new().start();
        let played = play(&engine, Some(REFUSING));
        let (coordinated, ()) = tokio::join!(engine.coordinate(new(None)), played);
        let coordinated = coordinated.expect("it is carried out");
        assert_eq!(coordinated.transaction.phase, Phase::Ended(End::RolledBack));
        let undone = [NodeOutcome::Undone, NodeOutcome::Refused, NodeOutcome::Undone];
        assert_eq!(outcomes(&coordinated), undone);
        assert!(!coordinated.transaction.reason.is_empty());
    }

    #[tokio::test]
    async fn under_one_key_all_are_told_of_one_transaction_also_after_its_end() {
        let engine = Bench::new().start();
        let keyed = || engine.coordinate(new(Some(RequestKey { key: [1; 32], request: [2; 32] })));
        let (first, twin, ()) = tokio::join!(keyed(), keyed(), play(&engine, None));
        let first = first.expect("it is carried out");
        assert_eq!(twin.expect("it is told of the same"), first);
        assert_eq!(keyed().await.expect("it is remembered"), first);
    }

    #[tokio::test]
    async fn a_group_that_is_held_is_refused_at_once_and_who_leaves_stops_nothing() {
        let engine = Bench::new().start();
        let (by, _) = engine.begin_transaction(new(None)).await.expect("the group is free");
        let refused = engine.coordinate(new(None)).await;
        assert_eq!(refused, Err(Rejection::GroupHeld { by }));
        play(&engine, None).await;
        let other = async {
            let left = engine.coordinate(new(None));
            // Left as soon as it is begun: the worker is done before it is looked at again.
            tokio::select! { biased; _ = left => {}, () = play(&engine, None) => {} }
        };
        other.await;
        let all = engine.transactions(None, None, 10).await.expect("the log works");
        let phases: Vec<Phase> = all.into_iter().map(|(_, it)| it.phase).collect();
        assert_eq!(phases, [Phase::Ended(End::Succeeded); 2]);
    }
}
