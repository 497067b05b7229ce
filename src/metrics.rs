//! What operators count: one registry, handles that cost an atomic addition.
//!
//! Names follow Prometheus: prefix `sillage_`, the unit last, `_total` for counters (written by
//! the encoder). A route's handles are resolved once, when it first answers with a status, so
//! that a request hashes no label; see [`RouteMetrics`].
//!
//! The text is the classic Prometheus format, 0.0.4, which every scraper reads.

pub mod hooks;
pub mod releases;
pub mod seals;

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use self::hooks::HookMetrics;
use self::releases::ReleaseMetrics;
use self::seals::SealMetrics;

/// Every metric of the process.
pub struct Metrics {
    registry: Registry,
    /// Records in one group commit.
    pub commit_records: Histogram,
    /// Seconds of one sync of the log.
    pub sync_seconds: Histogram,
    /// Formulas accepted.
    pub accepted: Counter,
    /// Formulas refused because their make-up is stored.
    pub duplicates: Counter,
    /// Bytes of the log on disk.
    pub log_bytes: Gauge,
    /// Highest LSN known to be durable; set when metrics are read.
    pub durable_lsn: Gauge,
    /// Seconds that the last recovery took.
    pub recovery_seconds: Gauge<f64, AtomicU64>,
    /// Snapshots written.
    pub compactions: Counter,
    /// Snapshots that could not be written.
    pub compactions_failed: Counter,
    /// Seconds that writing one took.
    pub compaction_seconds: Histogram,
    /// Everything up to this LSN is in the newest snapshot; 0 without one.
    pub snapshot_lsn: Gauge,
    /// Bytes of the newest snapshot; 0 without one.
    pub snapshot_bytes: Gauge,
    /// Reads of stored records that found damage.
    pub damaged_reads: Counter,
    /// Leased messages that could not be read: each was given back with the reason `damaged`.
    pub damaged_messages: Counter,
    /// Backups sent to their end.
    pub backups: Counter,
    /// Backups that broke off: the client left, or damage was found.
    pub backups_failed: Counter,
    /// Alarms of the last start: what the store holds twice was there only once.
    pub recovery_alarms: Gauge,
    /// Connections open now.
    pub connections_open: Gauge,
    /// Connections accepted.
    pub connections_accepted: Counter,
    /// Connections refused at a cap.
    pub connections_refused: Counter,
    /// Accepts that failed for want of descriptors or memory.
    pub accept_failures: Counter,
    /// Bytes read from connections.
    pub received_bytes: Counter,
    /// Bytes written to connections.
    pub sent_bytes: Counter,
    /// Handlers that panicked.
    pub panics: Counter,
    /// Seals.
    pub seals: SealMetrics,
    /// Hooks.
    pub hooks: HookMetrics,
    /// Releases.
    pub releases: ReleaseMetrics,
    messages: Family<QueueState, Gauge>,
    oldest_age: Family<QueueLabel, Gauge<f64, AtomicU64>>,
    requests: Family<RouteStatus, Counter>,
    durations: Family<RouteLabel, Histogram>,
}

/// Bounds in seconds of what a request or a sync may take: from one that waits for no disk to
/// a long poll.
const SECONDS: [f64; 16] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0,
    2.5, 10.0, 30.0,
];
/// Bounds in seconds of what writing a snapshot may take, of a small store up to a huge one.
const COMPACTION_SECONDS: [f64; 9] = [0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0];
/// Bounds of the records in a group commit, up to `BATCH_COMMANDS_MAX`.
const RECORDS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// The media type of [`Metrics::text`].
pub const TEXT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How one queue stands, as shown.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueDepth {
    /// Its name.
    pub queue: String,
    /// Messages by state, each state by its name.
    pub messages: Vec<(&'static str, u64)>,
    /// Age in seconds of the message that waits the longest; 0 when none waits.
    pub oldest_age_s: f64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueState {
    queue: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabel {
    queue: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    route: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteStatus {
    route: &'static str,
    status: u16,
}

impl Metrics {
    /// All metrics at zero.
    #[must_use]
    pub fn new() -> Metrics {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("sillage"),
            commit_records: Histogram::new(RECORDS),
            sync_seconds: seconds(),
            accepted: Counter::default(),
            duplicates: Counter::default(),
            log_bytes: Gauge::default(),
            durable_lsn: Gauge::default(),
            recovery_seconds: Gauge::default(),
            compactions: Counter::default(),
            compactions_failed: Counter::default(),
            compaction_seconds: Histogram::new(COMPACTION_SECONDS),
            snapshot_lsn: Gauge::default(),
            snapshot_bytes: Gauge::default(),
            damaged_reads: Counter::default(),
            damaged_messages: Counter::default(),
            backups: Counter::default(),
            backups_failed: Counter::default(),
            recovery_alarms: Gauge::default(),
            connections_open: Gauge::default(),
            connections_accepted: Counter::default(),
            connections_refused: Counter::default(),
            accept_failures: Counter::default(),
            received_bytes: Counter::default(),
            sent_bytes: Counter::default(),
            panics: Counter::default(),
            seals: SealMetrics::default(),
            hooks: HookMetrics::default(),
            releases: ReleaseMetrics::default(),
            messages: Family::default(),
            oldest_age: Family::default(),
            requests: Family::default(),
            durations: Family::new_with_constructor(seconds),
        };
        metrics.register_engine();
        metrics.register_snapshots();
        metrics.register_http();
        metrics.seals.register(&mut metrics.registry);
        metrics.hooks.register(&mut metrics.registry);
        metrics.releases.register(&mut metrics.registry);
        metrics
    }

    fn register_engine(&mut self) {
        let all = &mut self.registry;
        let add = (Unit::Seconds, Unit::Bytes);
        all.register("commit_records", "Records in one group commit", self.commit_records.clone());
        all.register_with_unit(
            "sync",
            "Time of one sync of the log",
            add.0.clone(),
            self.sync_seconds.clone(),
        );
        all.register("formulas_accepted", "Formulas accepted", self.accepted.clone());
        all.register(
            "formulas_duplicate",
            "Formulas refused because the same make-up is stored",
            self.duplicates.clone(),
        );
        all.register_with_unit("log", "Size of the log on disk", add.1, self.log_bytes.clone());
        all.register("durable_lsn", "Highest LSN known to be durable", self.durable_lsn.clone());
        all.register_with_unit(
            "recovery",
            "Time that the last recovery took",
            add.0.clone(),
            self.recovery_seconds.clone(),
        );
        all.register("queue_messages", "Messages by queue and state", self.messages.clone());
        all.register_with_unit(
            "queue_oldest_message_age",
            "Age of the message that waits the longest, 0 when none waits",
            add.0,
            self.oldest_age.clone(),
        );
    }

    fn register_snapshots(&mut self) {
        let all = &mut self.registry;
        all.register("compactions", "Snapshots written", self.compactions.clone());
        all.register(
            "compactions_failed",
            "Snapshots that could not be written",
            self.compactions_failed.clone(),
        );
        let seconds = self.compaction_seconds.clone();
        all.register_with_unit("compaction", "Time to write a snapshot", Unit::Seconds, seconds);
        let (lsn, bytes) = (self.snapshot_lsn.clone(), self.snapshot_bytes.clone());
        all.register("snapshot_lsn", "Everything up to this LSN is in the newest snapshot", lsn);
        all.register_with_unit("snapshot", "Size of the newest snapshot", Unit::Bytes, bytes);
        let (reads, messages) = (self.damaged_reads.clone(), self.damaged_messages.clone());
        all.register("damaged_reads", "Reads of stored records that found damage", reads);
        all.register("damaged_messages", "Leased messages given back as damaged", messages);
        all.register("backups", "Backups sent to their end", self.backups.clone());
        let failed = self.backups_failed.clone();
        all.register("backups_failed", "Backups that broke off", failed);
        all.register(
            "recovery_alarms",
            "Snapshots and covered segments that the last start found damaged or missing",
            self.recovery_alarms.clone(),
        );
    }

    fn register_http(&mut self) {
        let all = &mut self.registry;
        all.register("http_requests", "Requests by route and status", self.requests.clone());
        all.register_with_unit(
            "http_request_duration",
            "Time from a request's head to its response's head",
            Unit::Seconds,
            self.durations.clone(),
        );
        all.register("http_panics", "Handlers that panicked", self.panics.clone());
        all.register("connections_open", "Connections open now", self.connections_open.clone());
        let (accepted, refused) = (&self.connections_accepted, &self.connections_refused);
        all.register("connections_accepted", "Connections accepted", accepted.clone());
        all.register("connections_refused", "Connections refused at a cap", refused.clone());
        all.register(
            "accept_failures",
            "Accepts that failed for want of descriptors or memory",
            self.accept_failures.clone(),
        );
        all.register_with_unit(
            "http_received",
            "Bytes read from connections",
            Unit::Bytes,
            self.received_bytes.clone(),
        );
        all.register_with_unit(
            "http_sent",
            "Bytes written to connections",
            Unit::Bytes,
            self.sent_bytes.clone(),
        );
    }

    /// Shows how the queues stand. Called when metrics are read; nothing follows them between.
    pub fn set_queues(&self, depths: &[QueueDepth]) {
        for QueueDepth { queue, messages, oldest_age_s } in depths {
            for (state, count) in messages {
                let label = QueueState { queue: queue.clone(), state };
                let count = i64::try_from(*count).unwrap_or(i64::MAX);
                self.messages.get_or_create(&label).set(count);
            }
            let label = QueueLabel { queue: queue.clone() };
            self.oldest_age.get_or_create(&label).set(*oldest_age_s);
        }
    }

    /// Everything in the Prometheus text format.
    #[must_use]
    pub fn text(&self) -> String {
        let mut open_metrics = String::new();
        encode(&mut open_metrics, &self.registry).expect("a String takes every byte");
        classic(&open_metrics)
    }

    /// Handles for the route of this label.
    #[must_use]
    pub fn route(&self, label: &'static str) -> RouteMetrics {
        RouteMetrics {
            label,
            requests: self.requests.clone(),
            durations: self.durations.clone(),
            by_status: [const { OnceLock::new() }; STATUSES],
            duration: OnceLock::new(),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Slots for the statuses `x00` to `x31` of the five classes.
const STATUSES: usize = 5 * STATUSES_PER_CLASS;
const STATUSES_PER_CLASS: usize = 32;

/// What is counted for one route.
pub struct RouteMetrics {
    label: &'static str,
    requests: Family<RouteStatus, Counter>,
    durations: Family<RouteLabel, Histogram>,
    /// Filled as the statuses occur, so that no series shows what never happened.
    by_status: [OnceLock<Counter>; STATUSES],
    duration: OnceLock<Histogram>,
}

impl RouteMetrics {
    /// Counts a response with this status, 100 to 599, that took so long.
    pub fn count(&self, status: u16, took: Duration) {
        let slot = slot(status).and_then(|slot| self.by_status.get(slot));
        match slot {
            Some(slot) => slot.get_or_init(|| self.counter(status)).inc(),
            None => self.counter(status).inc(),
        };
        let histogram = || self.durations.get_or_create_owned(&RouteLabel { route: self.label });
        self.duration.get_or_init(histogram).observe(took.as_secs_f64());
    }

    fn counter(&self, status: u16) -> Counter {
        self.requests.get_or_create_owned(&RouteStatus { route: self.label, status })
    }
}

impl fmt::Debug for RouteMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RouteMetrics({})", self.label)
    }
}

fn slot(status: u16) -> Option<usize> {
    let (class, rest) = (usize::from(status / 100), usize::from(status % 100));
    let fits = (1..=5).contains(&class) && rest < STATUSES_PER_CLASS;
    fits.then(|| (class - 1) * STATUSES_PER_CLASS + rest)
}

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

/// OpenMetrics text as classic text: the two differ in how a counter's family is called.
fn classic(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut lines = open_metrics.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("# UNIT ") || line == "# EOF" {
            continue;
        }
        // HELP stands right before TYPE, and only TYPE tells that it is a counter.
        let kind = if line.starts_with("# HELP ") { lines.peek().copied() } else { Some(line) };
        let counter = kind.is_some_and(|l| l.starts_with("# TYPE ") && l.ends_with(" counter"));
        match line.splitn(4, ' ').collect::<Vec<_>>()[..] {
            [hash, word, name, rest] if counter => {
                text.push_str(&format!("{hash} {word} {name}_total {rest}"));
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_names_counters_and_units_as_prometheus_does() {
        let metrics = Metrics::new();
        metrics.accepted.inc();
        metrics.received_bytes.inc_by(5);
        metrics.route("formulas_submit").count(201, Duration::from_micros(300));
        let text = metrics.text();
        for line in [
            "# TYPE sillage_formulas_accepted_total counter",
            "sillage_formulas_accepted_total 1",
            "# HELP sillage_formulas_accepted_total Formulas accepted.",
            "sillage_http_received_bytes_total 5",
            "# TYPE sillage_sync_seconds histogram",
            r#"sillage_http_requests_total{route="formulas_submit",status="201"} 1"#,
            "sillage_http_request_duration_seconds_bucket\
             {le=\"0.0005\",route=\"formulas_submit\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
        }
    }

    /// What `promtool check metrics` holds against a text.
    #[test]
    fn every_family_has_a_help_and_every_sample_a_family() {
        let metrics = Metrics::new();
        metrics.route("r").count(404, Duration::ZERO);
        metrics.set_queues(&[QueueDepth {
            queue: "formulas".into(),
            messages: vec![("ready", 3)],
            oldest_age_s: 1.5,
        }]);
        let text = metrics.text();
        let words = |start: &str| -> Vec<String> {
            let lines = text.lines().filter_map(|l| l.strip_prefix(start));
            lines.map(|l| l.split([' ', '{']).next().unwrap_or_default().to_owned()).collect()
        };
        let families = words("# TYPE ");
        assert_eq!(words("# HELP "), families);
        for sample in words("").iter().filter(|word| *word != "#") {
            let of = |suffix: &str| sample.strip_suffix(suffix).unwrap_or(sample).to_owned();
            let names = [sample.clone(), of("_bucket"), of("_sum"), of("_count")];
            assert!(names.iter().any(|name| families.contains(name)), "{sample}");
        }
        assert!(!text.contains("_total_total"));
    }

    #[test]
    fn every_status_counts_even_without_a_slot() {
        let metrics = Metrics::new();
        let route = metrics.route("r");
        for status in [100, 431, 451, 599] {
            route.count(status, Duration::ZERO);
            assert!(metrics.text().contains(&format!("status=\"{status}\"}} 1")), "{status}");
        }
    }
}
