//! Nothing fails any more: what there is to do is done, and then all must be as it was promised.

use std::time::Duration;

use sillage::engine::releases::{Action, End, Origin, Partners};
use sillage::ids::QueueName;
use sillage::record::{FlowStep, Selection};
use tokio::time::Instant;

use super::clients::name;
use super::tape::Stored;
use super::{Life, Reign};
use sillage::engine::decide::Policy;

/// By then everything must have settled: leases of processes that are gone have lapsed, and the
/// longest back-off is over, many times.
const PATIENCE_MS: u64 = 4 * 3_600_000;
/// Between two looks.
const STEP_MS: u64 = 5_000;

impl Life {
    pub(super) async fn settle(&mut self) {
        self.machine.make_peace();
        let all: Vec<Box<str>> = {
            let mut world = self.world.lock();
            world.has_peace = true;
            world.nodes.keys().cloned().collect()
        };
        let flow: &[FlowStep] = &[FlowStep::Release];
        let policy = Policy { attempts_max: 2, retention_ms: 100_000_000, flow };
        let core = self.open(policy).await;
        let partners = Partners { nodes: all, deadline_ms: 100 };
        let mut reign = self.set_to_work(core, partners, 1000);
        self.run_down(&mut reign).await;
        // Formulas that were given up are tried again; nothing is in their way any more.
        for queue in [QueueName::SEALS, QueueName::RELEASES] {
            let (engine, queue) = (reign.engine.clone(), name(queue));
            reign.clients.spawn(async move {
                let moved = engine.redrive(queue, Selection::All).await;
                moved.expect("nothing hinders it");
            });
            self.run_down(&mut reign).await;
        }
        let dead = self.queue_lengths(&reign).await.1;
        assert_eq!(dead, 0, "nothing is given up when nothing fails");
        self.check_end(&mut reign);
        let core = reign.cut_off().await.into_core();
        self.machine.check(&core);
        core.close().expect("nothing hinders the close");
    }

    /// Until nobody has anything to do.
    async fn run_down(&mut self, reign: &mut Reign) {
        let began = Instant::now();
        loop {
            let until = Instant::now() + Duration::from_millis(STEP_MS);
            assert!(self.drive(reign, until).await.is_continue(), "nothing hinders the log");
            let open = self.world.lock().tape.held.len();
            let waiting = self.queue_lengths(reign).await.0;
            if open == 0 && waiting == 0 {
                return;
            }
            let is_late = began.elapsed() > Duration::from_millis(PATIENCE_MS);
            assert!(!is_late, "{open} transactions and {waiting} messages wait for ever");
        }
    }

    /// Whether messages wait on the queues of the flow, and how many were given up.
    async fn queue_lengths(&self, reign: &Reign) -> (u64, u64) {
        let (mut waiting, mut dead) = (0, 0);
        for queue in [QueueName::SEALS, QueueName::RELEASES] {
            let queue = reign.engine.queue(&name(queue)).await.expect("it is built in");
            waiting += queue.ready + queue.leased + queue.delayed;
            dead += queue.dead;
        }
        (waiting, dead)
    }

    fn check_end(&mut self, reign: &mut Reign) {
        self.machine.check(reign.writer.core());
        let world = self.world.lock();
        for ((url, group), expected) in &world.tape.expected {
            let has = world.nodes[url].has(group);
            assert_eq!(has, *expected, "{group} on {url} is as the last transaction left it");
        }
        for (formula, (fingerprint, stored)) in &world.tape.formulas {
            let group = fingerprint.to_string();
            let about = world.tape.transactions.iter().rev();
            let mut about = about.filter(|(_, told)| told.begun.group.as_str() == group);
            let succeeded = about.find(|(_, told)| told.end == Some(End::Succeeded));
            let last = succeeded.map(|(_, told)| (told.begun.action, told.begun.origin));
            match stored {
                Stored::Still => {
                    let is_ours = matches!(last, Some((_, Origin::Flow { formula: of, .. }))
                        if of == *formula);
                    assert!(is_ours, "{formula} is released, not {last:?}");
                }
                // Maybe it was accepted again.
                Stored::Withdrawn => assert!(
                    last.is_some_and(|(action, origin)| action == Action::Delete
                        || matches!(origin, Origin::Flow { formula: of, .. } if of > *formula)),
                    "{formula} is withdrawn, not {last:?}"
                ),
            }
        }
    }
}
