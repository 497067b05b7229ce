//! What was measured, as tables for people or one JSON document for scripts.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::cli::bench::contender::{Name, Totals};
use crate::cli::bench::metrics::Commits;
use crate::cli::bench::pace::Pace;
use crate::cli::bench::plan::{Scenario, Workload};
use crate::cli::bench::tally::{Figures, median_ratio};
use crate::cli::failure::Failure;

/// One scenario, measured on one or more servers.
pub(crate) struct Comparison {
    /// What was measured.
    pub(crate) scenario: Scenario,
    /// The rounds of each server; the one that it is about comes first.
    pub(crate) rounds: Vec<(Name, Vec<Figures>)>,
    /// Its commits meanwhile, warm-ups included, if it tells.
    pub(crate) commits: Option<Commits>,
    /// Its memory afterwards, if it is ours.
    pub(crate) resident_bytes: Option<u64>,
    /// Whether its files are in memory.
    pub(crate) is_in_memory: bool,
    /// The machine's load averages.
    pub(crate) load: String,
}

/// Threads that spent less than so many microseconds per unit are not shown.
const CPU_US_SHOWN: f64 = 0.05;

/// Prints comparisons as they come, or gathers them.
pub(crate) struct Report {
    seed: u64,
    /// The results so far, when JSON is wanted.
    gathered: Option<Vec<Value>>,
}

impl Report {
    /// A report that prints tables as they come.
    pub(crate) fn of_tables(seed: u64) -> Report {
        Report { seed, gathered: None }
    }

    /// A report that is one document in the end.
    pub(crate) fn of_json(seed: u64) -> Report {
        Report { seed, gathered: Some(Vec::new()) }
    }

    /// Begins the report.
    pub(crate) fn open(&self, out: &mut impl Write) -> Result<(), Failure> {
        if self.gathered.is_none() {
            writeln!(out, "seed {} (the same formulas again: --seed {0})", self.seed)
                .and_then(|()| out.flush())
                .map_err(Failure::Output)?;
        }
        Ok(())
    }

    /// Adds a comparison.
    pub(crate) fn add(&mut self, one: Comparison, out: &mut impl Write) -> Result<(), Failure> {
        match &mut self.gathered {
            Some(gathered) => gathered.push(one.json()),
            None => one.print(out).and_then(|()| out.flush()).map_err(Failure::Output)?,
        }
        Ok(())
    }

    /// Ends the report.
    pub(crate) fn close(self, totals: Totals, out: &mut impl Write) -> Result<(), Failure> {
        let Totals { accepted, duplicates, read, acked, json_bytes } = totals;
        let printed = match self.gathered {
            Some(results) => writeln!(
                out,
                "{:#}",
                json!({
                    "seed": self.seed,
                    "results": results,
                    "totals": {
                        "accepted": accepted, "duplicates": duplicates,
                        "read": read, "acked": acked, "bulk_json_bytes": json_bytes,
                    },
                })
            ),
            None => writeln!(
                out,
                "\nin all, warm-ups and stocks included, and each answer checked: {accepted} \
                 formulas accepted, {duplicates} refused as duplicates, {read} read, {acked} \
                 messages acked"
            ),
        };
        printed.map_err(Failure::Output)
    }
}

impl Comparison {
    fn title(&self) -> String {
        let Scenario { workload, connections, messages, lines, .. } = &self.scenario;
        let pace = self.scenario.pace_words();
        let connections = match connections {
            1 => "1 connection".to_owned(),
            more => format!("{more} connections"),
        };
        match workload {
            Workload::Bulk => format!("bulk, one stream of {lines} lines"),
            Workload::Lease => format!("lease + ack of {messages}, {connections}, {pace}"),
            other => format!("{}, {connections}, {pace}", other.as_str()),
        }
    }

    fn ours(&self) -> &[Figures] {
        self.rounds.first().map_or(&[], |(_, rounds)| rounds)
    }

    /// A table that is one in Markdown, too.
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "\n### {} (load {})\n", self.title(), self.load)?;
        writeln!(
            out,
            "| {:<10} | {:>9} | {:>8} | {:>8} | {:>8} | {:>8} | {:>8} | {:>12} |",
            "server", "per s", "p50 ms", "p90", "p99", "p99.9", "max", "sillage : it"
        )?;
        writeln!(out, "|------------|{0}:|{1}:|{1}:|{1}:|{1}:|{1}:|{2}:|", D[0], D[1], D[2])?;
        for (name, rounds) in self.rounds.iter().rev() {
            let median = Figures::median(rounds);
            let ms = |latency: Duration| latency.as_secs_f64() * 1e3;
            let ratio = median_ratio(self.ours(), rounds).unwrap_or(f64::NAN);
            writeln!(
                out,
                "| {:<10} | {:>9.0} | {:>8.3} | {:>8.3} | {:>8.3} | {:>8.3} | {:>8.3} | {:>12.2} |",
                name.as_str(),
                median.rate,
                ms(median.p50),
                ms(median.p90),
                ms(median.p99),
                ms(median.p999),
                ms(median.max),
                ratio,
            )?;
        }
        writeln!(out)?;
        self.print_notes(out)
    }

    fn print_notes(&self, out: &mut impl Write) -> io::Result<()> {
        for (name, rounds) in self.rounds.iter().rev() {
            let median = Figures::median(rounds);
            let shown = median.cpu_us.iter().filter(|(_, us)| *us >= CPU_US_SHOWN);
            let cpu: Vec<String> = shown.map(|(name, us)| format!("{name} {us:.1}")).collect();
            let mut notes =
                vec![format!("{} requests in {:.2} s", median.requests, median.seconds)];
            if !cpu.is_empty() {
                notes.push(format!("processor, µs per unit: {}", cpu.join(", ")));
            }
            if median.turned_away > 0 {
                notes.push(format!("{} turned away (429, 503)", median.turned_away));
            }
            if median.unsent > 0 {
                let unsent = median.unsent;
                notes.push(format!("{unsent} due and NOT SENT: the latencies are lower bounds"));
            }
            if median.idle > 0 {
                notes.push(format!("{} connections ran out of work", median.idle));
            }
            writeln!(out, "{}: {}", name.as_str(), notes.join("; "))?;
        }
        if let Some(commits) = &self.commits {
            writeln!(out, "sillage: {commits}")?;
        }
        if let Some(bytes) = self.resident_bytes {
            writeln!(out, "sillage: resident {} MiB", bytes >> 20)?;
        }
        if self.is_in_memory {
            let remedy = "choose a directory on a disk with --beside";
            writeln!(out, "the store is in memory, where a sync costs nothing: {remedy}")?;
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let rate = match self.scenario.pace {
            Pace::Closed => Value::Null,
            Pace::Open { per_s } => json!(per_s),
        };
        let servers = self.rounds.iter().map(|(name, rounds)| {
            let mut server = figures_json(&Figures::median(rounds));
            let rates: Vec<f64> = rounds.iter().map(|figures| figures.rate).collect();
            server["round_rates_per_s"] = json!(rates);
            server["sillage_to_it"] = json!(median_ratio(self.ours(), rounds));
            (name.as_str().to_owned(), server)
        });
        json!({
            "workload": self.scenario.workload.as_str(),
            "connections": self.scenario.connections,
            "messages_each": self.scenario.messages,
            "open_rate_per_s": rate,
            "servers": servers.collect::<Map<_, _>>(),
            "commits": self.commits.map(Commits::json),
            "resident_bytes": self.resident_bytes,
            "store_in_memory": self.is_in_memory,
            "load": self.load,
        })
    }
}

/// Dashes below the columns of a table.
const D: [&str; 3] = ["----------", "---------", "-------------"];

fn figures_json(figures: &Figures) -> Value {
    let ms = |latency: Duration| latency.as_secs_f64() * 1e3;
    json!({
        "rate_per_s": figures.rate,
        "requests": figures.requests,
        "seconds": figures.seconds,
        "turned_away": figures.turned_away,
        "unsent": figures.unsent,
        "idle_connections": figures.idle,
        "latency_ms": {
            "p50": ms(figures.p50), "p90": ms(figures.p90), "p99": ms(figures.p99),
            "p99_9": ms(figures.p999), "max": ms(figures.max),
        },
        "cpu_us_per_unit": figures.cpu_us.iter().cloned().collect::<BTreeMap<_, _>>(),
    })
}
