//! Which scenarios are measured, on which servers, in which order.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use crate::cli::bench::contender::{Contender, Name, Totals};
use crate::cli::bench::fault::Fault;
use crate::cli::bench::metrics::Commits;
use crate::cli::bench::pace::Pace;
use crate::cli::bench::reference::Reference;
use crate::cli::bench::report::{Comparison, Report};
use crate::cli::bench::server::{Recipe, Server, this_program};
use crate::cli::bench::submit::Supply;
use crate::cli::bench::target::Target;
use crate::cli::bench::{BenchArgs, compaction, machine};
use crate::cli::failure::Failure;
use crate::limits::BENCH_WARM_UP_MS;

/// What is asked of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Workload {
    /// POST of new formulas
    Submit,
    /// POST of stored formulas, which must be refused
    Duplicates,
    /// GET of stored formulas by id, at random
    Get,
    /// Lease and ack by turns
    Lease,
    /// One NDJSON stream of new formulas
    Bulk,
}

impl Workload {
    /// As it is called on the command line.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Workload::Submit => "submit",
            Workload::Duplicates => "duplicates",
            Workload::Get => "get",
            Workload::Lease => "lease",
            Workload::Bulk => "bulk",
        }
    }

    fn needs_stock(self) -> bool {
        matches!(self, Workload::Duplicates | Workload::Get | Workload::Lease)
    }

    /// The servers that it can be compared with.
    fn references(self) -> &'static [Reference] {
        match self {
            Workload::Submit | Workload::Duplicates => &[Reference::Bare, Reference::Ceiling],
            Workload::Get => &[Reference::Bare],
            Workload::Lease | Workload::Bulk => &[],
        }
    }
}

/// One thing that is measured.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// What is asked.
    pub(crate) workload: Workload,
    /// By how many connections.
    pub(crate) connections: usize,
    /// Messages of one lease; only for [`Workload::Lease`].
    pub(crate) messages: usize,
    /// Formulas of one stream; only for [`Workload::Bulk`].
    pub(crate) lines: u64,
    /// When requests are sent.
    pub(crate) pace: Pace,
    /// How long it runs before it is measured.
    pub(crate) warm_up: Duration,
    /// What random choices grow from.
    pub(crate) seed: u64,
}

/// A measurement as the arguments describe it.
pub(crate) struct Bench<'a> {
    arguments: &'a BenchArgs,
    seed: u64,
    /// What the server of a URL is given, over all workloads: it keeps what it was sent.
    remote_supply: Arc<Supply>,
}

impl<'a> Bench<'a> {
    /// The measurement with this seed.
    pub(crate) fn new(arguments: &'a BenchArgs, seed: u64) -> Bench<'a> {
        let stocked = if arguments.stocked { arguments.stock } else { 0 };
        let first = arguments.first.saturating_add(stocked);
        Bench { arguments, seed, remote_supply: Arc::new(Supply::new(seed, first)) }
    }

    /// Measures everything and prints it: tables as they come, JSON in the end.
    pub(crate) async fn measure(&self, out: &mut impl Write) -> Result<(), Failure> {
        let mut report = match self.arguments.json {
            true => Report::of_json(self.seed),
            false => Report::of_tables(self.seed),
        };
        report.open(out)?;
        let mut totals = Totals::default();
        for &workload in &self.arguments.workload {
            self.measure_workload(workload, &mut report, &mut totals, out).await?;
        }
        report.close(totals, out)
    }

    async fn measure_workload(
        &self,
        workload: Workload,
        report: &mut Report,
        totals: &mut Totals,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        let mut contenders = Vec::new();
        for scenario in self.scenarios(workload) {
            // New formulas are measured on new stores; the others leave the store as it is, or
            // use its queue up together.
            if contenders.is_empty() || workload == Workload::Submit {
                finish(&mut contenders, totals).await?;
                contenders = self.contenders(workload).await?;
            }
            let comparison = match self.arguments.during_compaction {
                false => self.compare(&mut contenders, scenario).await?,
                true => {
                    let (time, rounds) = (self.arguments.seconds.0, self.arguments.rounds);
                    compaction::compare(&mut contenders[0], scenario, time, rounds).await?
                }
            };
            report.add(comparison, out)?;
        }
        finish(&mut contenders, totals).await?;
        Ok(())
    }

    /// The scenarios of a workload.
    fn scenarios(&self, workload: Workload) -> Vec<Scenario> {
        let arguments = self.arguments;
        let scenario = |connections, messages| Scenario {
            workload,
            connections,
            messages,
            lines: arguments.lines,
            pace: arguments.pace(),
            warm_up: Duration::from_millis(BENCH_WARM_UP_MS).min(arguments.seconds.0),
            seed: self.seed,
        };
        let connections = arguments.connections.iter();
        match workload {
            Workload::Bulk => vec![scenario(1, 0)],
            Workload::Lease => {
                let each = |&messages| connections.clone().map(move |&count| (count, messages));
                let pairs = arguments.batch.iter().flat_map(each);
                pairs.map(|(count, messages)| scenario(count, messages)).collect()
            }
            _ => connections.map(|&count| scenario(count, 0)).collect(),
        }
    }

    /// The servers of a workload, ready to be measured; the one that it is about comes first.
    async fn contenders(&self, workload: Workload) -> Result<Vec<Contender>, Failure> {
        let arguments = self.arguments;
        let supply = || Arc::new(Supply::new(self.seed, arguments.first));
        let mut contenders = Vec::new();
        match &arguments.url {
            Some(url) => {
                let target = Arc::new(Target::of(url, arguments.token.as_ref())?);
                contenders.push(Contender::remote(
                    Name::Sillage,
                    target,
                    Arc::clone(&self.remote_supply),
                ));
            }
            None => {
                let mut start = |name, program| -> Result<(), Fault> {
                    let server = Server::sillage(&self.recipe(program))?;
                    contenders.push(Contender::own(name, server, supply()));
                    Ok(())
                };
                start(Name::Sillage, this_program()?)?;
                if let Some(rival) = &arguments.rival {
                    start(Name::Rival, rival.clone())?;
                }
            }
        }
        for server in contenders.iter().filter_map(Contender::server) {
            server.settle().await;
        }
        if workload.needs_stock() || arguments.during_compaction {
            for contender in &mut contenders {
                match arguments.stocked {
                    true => contender.assume_stock(arguments.first, arguments.stock),
                    false => contender.load_stock(arguments.stock).await?,
                }
            }
        }
        if arguments.ceiling {
            for &reference in workload.references() {
                let stock = arguments.stock;
                contenders.push(Contender::reference(reference, supply(), stock)?);
            }
        }
        Ok(contenders)
    }

    fn recipe(&self, program: std::ffi::OsString) -> Recipe {
        Recipe {
            program,
            arguments: self.arguments.serve_arguments.clone(),
            beside: self.arguments.beside.clone(),
        }
    }

    /// All contenders by turns, round by round.
    async fn compare(
        &self,
        contenders: &mut [Contender],
        scenario: Scenario,
    ) -> Result<Comparison, Fault> {
        let ours = Arc::clone(contenders[0].target());
        let before = Commits::read(&ours).await;
        let mut rounds: Vec<_> = contenders.iter().map(|c| (c.name, Vec::new())).collect();
        for _ in 0..self.arguments.rounds {
            // References first, as a warm-up of the machine for what matters.
            for (contender, (_, figures)) in contenders.iter_mut().zip(&mut rounds).rev() {
                let measured = contender.measure(&scenario, self.arguments.seconds.0).await?;
                figures.push(measured.0.figures(&measured.1));
            }
        }
        let after = Commits::read(&ours).await;
        let server = contenders[0].server();
        let directory = server.and_then(Server::directory);
        Ok(Comparison {
            scenario,
            rounds,
            commits: after.zip(before).map(|(after, before)| after.since(before)),
            resident_bytes: server.map(Server::resident_bytes),
            is_in_memory: directory.is_some_and(machine::is_in_memory),
            load: machine::load(),
        })
    }
}

/// Ends the contenders in good order and adds up what ours were given.
async fn finish(contenders: &mut Vec<Contender>, totals: &mut Totals) -> Result<(), Fault> {
    for contender in contenders.drain(..) {
        let is_ours = contender.name == Name::Sillage;
        let done = contender.finish().await?;
        if is_ours {
            totals.add(done);
        }
    }
    Ok(())
}
