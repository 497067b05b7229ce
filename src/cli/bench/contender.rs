//! One server of a comparison with the formulas that it is given.

use std::sync::Arc;
use std::time::Duration;

use crate::cli::bench::connection::Connection;
use crate::cli::bench::consume::{Acked, Consume};
use crate::cli::bench::drive::{Work, drive};
use crate::cli::bench::fault::{Fault, Mistake};
use crate::cli::bench::fetch::{self, Fetch, Known};
use crate::cli::bench::machine::{ThreadTimes, spent_between};
use crate::cli::bench::pace::{Pace, Span};
use crate::cli::bench::plan::{Scenario, Workload};
use crate::cli::bench::server::Server;
use crate::cli::bench::submit::{Check, Submit, Supply};
use crate::cli::bench::tally::Tally;
use crate::cli::bench::target::Target;
use crate::cli::bench::{bulk, reference::Reference};

/// Whose figures these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// hyper, and nothing else.
    Bare,
    /// hyper with all of the work that needs no disk.
    Ceiling,
    /// The server that is measured.
    Sillage,
    /// Another build of it.
    Rival,
    /// The server that is measured, while it compacts.
    Compacting,
}

impl Name {
    /// As it is shown.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Name::Bare => "bare",
            Name::Ceiling => "ceiling",
            Name::Sillage => "sillage",
            Name::Rival => "rival",
            Name::Compacting => "compacting",
        }
    }
}

/// What a server was given and gave, over all runs and warm-ups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Formulas that it accepted.
    pub(crate) accepted: u64,
    /// Formulas that it refused as duplicates.
    pub(crate) duplicates: u64,
    /// Formulas read by id.
    pub(crate) read: u64,
    /// Messages acked.
    pub(crate) acked: u64,
    /// Bytes of JSON that were loaded in bulk, newlines left out.
    pub(crate) json_bytes: u64,
}

impl Totals {
    /// Adds what another server was given and gave.
    pub(crate) fn add(&mut self, other: Totals) {
        self.accepted += other.accepted;
        self.duplicates += other.duplicates;
        self.read += other.read;
        self.acked += other.acked;
        self.json_bytes += other.json_bytes;
    }

    fn count(&mut self, workload: Workload, units: u64) {
        *match workload {
            Workload::Submit | Workload::Bulk => &mut self.accepted,
            Workload::Duplicates => &mut self.duplicates,
            Workload::Get => &mut self.read,
            Workload::Lease => &mut self.acked,
        } += units;
    }
}

/// A server that is measured.
pub(crate) struct Contender {
    /// Whose figures these are.
    pub(crate) name: Name,
    /// What it has done so far.
    pub(crate) totals: Totals,
    target: Arc<Target>,
    /// The process, if it is ours.
    server: Option<Server>,
    check: Check,
    supply: Arc<Supply>,
    /// The number of the first stored formula, and how many follow it.
    stock: (u64, u64),
    /// Messages that wait before each run of [`Workload::Lease`]; 0 leaves the queue as it is.
    waiting_min: u64,
    known: Option<Arc<Known>>,
    acked: Arc<Acked>,
}

impl Contender {
    /// A server of our own.
    pub(crate) fn own(name: Name, server: Server, supply: Arc<Supply>) -> Contender {
        let target = Arc::clone(server.target());
        Contender { server: Some(server), ..Contender::remote(name, target, supply) }
    }

    /// A reference server. It stores nothing, so it may be sent anything, and any formula of the
    /// stock may be asked of it.
    pub(crate) fn reference(
        kind: Reference,
        supply: Arc<Supply>,
        stock: u64,
    ) -> Result<Self, Fault> {
        let name = match kind {
            Reference::Bare => Name::Bare,
            Reference::Ceiling => Name::Ceiling,
        };
        let mut contender = Contender::own(name, Server::reference(kind)?, supply);
        contender.check = Check::Status;
        contender.assume_stock(0, stock);
        Ok(contender)
    }

    /// The server of a URL.
    pub(crate) fn remote(name: Name, target: Arc<Target>, supply: Arc<Supply>) -> Contender {
        Contender {
            name,
            totals: Totals::default(),
            target,
            server: None,
            check: Check::Content,
            supply,
            stock: (0, 0),
            waiting_min: 0,
            known: None,
            acked: Arc::default(),
        }
    }

    /// How it is asked.
    pub(crate) fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// The process, if it is ours.
    pub(crate) fn server(&self) -> Option<&Server> {
        self.server.as_ref()
    }

    /// Takes so many formulas from this number on as stored already.
    pub(crate) fn assume_stock(&mut self, first: u64, count: u64) {
        self.stock = (first, count);
    }

    /// Stores so many formulas.
    pub(crate) async fn load_stock(&mut self, count: u64) -> Result<(), Fault> {
        let first = self.supply.take(count).ok_or(Fault::Exhausted)?;
        self.assume_stock(first, count);
        let loaded = bulk::load(&self.target, &self.supply, self.stock).await?;
        self.totals.accepted += count;
        self.totals.json_bytes += loaded.json_bytes;
        self.waiting_min = self.waiting_min.max(count);
        self.known = None;
        Ok(())
    }

    /// Measures one run after a warm-up.
    pub(crate) async fn measure(
        &mut self,
        scenario: &Scenario,
        time: Duration,
    ) -> Result<(Tally, ThreadTimes), Fault> {
        if scenario.workload == Workload::Bulk {
            let before = self.threads();
            let tally = self.load_lines(scenario.lines).await?;
            return Ok((tally, spent_between(&before, &self.threads())));
        }
        // On a server that was not empty more may have been acked than we brought: by another
        // run, or by this one for the workloads before, each of which counts for itself.
        let waiting = self.totals.accepted.saturating_sub(self.totals.acked);
        if scenario.workload == Workload::Lease && waiting < self.waiting_min {
            self.load_stock(self.waiting_min - waiting).await?;
        }
        self.run(scenario, Span::For(scenario.warm_up)).await?;
        let before = self.threads();
        let tally = self.run(scenario, Span::For(time)).await?;
        Ok((tally, spent_between(&before, &self.threads())))
    }

    /// One run of a workload other than `bulk`.
    pub(crate) async fn run(&mut self, scenario: &Scenario, span: Span) -> Result<Tally, Fault> {
        let (supply, acked) = (Arc::clone(&self.supply), Arc::clone(&self.acked));
        let (check, stock, messages) = (self.check, self.stock, scenario.messages);
        let ways = (scenario, span);
        let tally = match scenario.workload {
            Workload::Submit => self.drive(ways, |_| Submit::new(&supply, check)).await,
            Workload::Duplicates => {
                self.drive(ways, |seed| Submit::again(&supply, stock, check, seed)).await
            }
            Workload::Get => {
                let known = self.known(scenario.seed);
                self.drive(ways, |seed| Fetch::new(&supply, &known, check, seed)).await
            }
            Workload::Lease => self.drive(ways, |_| Consume::new(messages, &acked)).await,
            Workload::Bulk => self.load_lines(scenario.lines).await,
        }?;
        if scenario.workload != Workload::Bulk {
            self.totals.count(scenario.workload, tally.units);
        }
        Ok(tally)
    }

    async fn drive<W: Work>(
        &self,
        (scenario, span): (&Scenario, Span),
        work: impl Fn(u64) -> W,
    ) -> Result<Tally, Fault> {
        let count = scenario.connections as u64;
        // Works that choose at random choose differently, and the same in every run.
        let works = (0..count).map(|index| work(scenario.seed.wrapping_add(index)));
        drive(&self.target, works, scenario.pace, span).await
    }

    async fn load_lines(&mut self, count: u64) -> Result<Tally, Fault> {
        let first = self.supply.take(count).ok_or(Fault::Exhausted)?;
        let loaded = bulk::load(&self.target, &self.supply, (first, count)).await?;
        self.totals.accepted += count;
        self.totals.json_bytes += loaded.json_bytes;
        let mut tally = Tally::new();
        tally.note(loaded.elapsed, count);
        tally.elapsed = loaded.elapsed;
        Ok(tally)
    }

    fn known(&mut self, seed: u64) -> Arc<Known> {
        let (supply, stock) = (&self.supply, self.stock);
        let known = self.known.get_or_insert_with(|| Arc::new(fetch::known(supply, stock, seed)));
        Arc::clone(known)
    }

    fn threads(&self) -> ThreadTimes {
        self.server.as_ref().map(Server::threads).unwrap_or_default()
    }

    /// Counts its messages against what was accepted and acked, if the server is ours, and ends
    /// it in good order.
    pub(crate) async fn finish(mut self) -> Result<Totals, Fault> {
        if let Some(server) = self.server.take()
            && self.check == Check::Content
        {
            self.check_queue().await?;
            server.terminate()?;
        }
        Ok(self.totals)
    }

    /// Each accepted formula is one message, until it is acked.
    async fn check_queue(&self) -> Result<(), Fault> {
        let mut connection = Connection::open(&self.target).await?;
        let body = connection.get("/queues/formulas").await?;
        let status: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let count = |state: &str| status[state].as_u64().unwrap_or(u64::MAX / 4);
        let held: u64 = ["ready", "leased", "delayed", "dead"].into_iter().map(count).sum();
        let expected = self.totals.accepted - self.totals.acked;
        if held == expected { Ok(()) } else { Err(Fault::wrong(Mistake::Content, body)) }
    }
}

impl Scenario {
    /// How it is sent, in words.
    pub(crate) fn pace_words(&self) -> String {
        match self.pace {
            Pace::Closed => "closed loop".to_owned(),
            Pace::Open { per_s } => format!("open loop, {per_s}/s"),
        }
    }
}
