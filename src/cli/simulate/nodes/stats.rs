//! What a node has seen, as `GET /stats` shows it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::cli::simulate::nodes::groups::Did;
use crate::cli::simulate::nodes::manner::Manner;
use crate::cli::simulate::nodes::request::Request;
use crate::cli::simulate::outcome::Outcome;
use crate::cli::simulate::server::{Visit, ms};
use crate::limits::SIMULATE_REQUESTS_MAX;

/// A request as it is kept.
#[derive(Debug, Serialize)]
pub(super) struct Kept {
    at_ms: f64,
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: String,
    idempotency_key: Option<String>,
    group: Option<String>,
    met: String,
    did: Did,
    /// `None`: it did nothing, or not yet.
    did_at_ms: Option<f64>,
    /// `None` until it is answered, and if it never was.
    status: Option<u16>,
}

impl Kept {
    fn of(visit: &Visit, request: &Request, met: Manner) -> Kept {
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers = visit.headers.iter();
        Kept {
            at_ms: ms(visit.at_us),
            method: visit.method.to_string(),
            path: visit.path.clone(),
            headers: headers
                .map(|(name, value)| (name.to_string(), lossy(value.as_bytes())))
                .collect(),
            body: lossy(&visit.body),
            idempotency_key: visit.header("idempotency-key").map(str::to_owned),
            group: request.group().map(str::to_owned),
            met: met.to_string(),
            did: Did::Nothing,
            did_at_ms: None,
            status: None,
        }
    }
}

/// What a request is known by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    /// Its place among the kept ones, if it is kept.
    place: Option<usize>,
}

/// How many there were of each kind.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Counts {
    /// Requests.
    pub(super) seen: u64,
    /// Those that create or delete.
    pub(super) calls: u64,
    /// Those that look.
    pub(super) looks: u64,
    /// Those that are not answered yet.
    pub(super) under_way: u64,
    /// Those that were counted and not kept.
    pub(super) not_kept: u64,
}

/// Everything that is counted and kept.
#[derive(Debug, Default)]
pub(super) struct Stats {
    counts: Counts,
    faults: BTreeMap<String, u64>,
    by_status: BTreeMap<String, u64>,
    requests: Vec<Kept>,
}

/// Which of the kept requests are shown.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Choice<'a> {
    /// Only those about this group.
    pub(super) group: Option<&'a str>,
    /// Only so many of the latest ones.
    pub(super) last: Option<usize>,
}

/// What is shown beside the counts.
#[derive(Debug, Serialize)]
pub(super) struct Shown<'a> {
    /// Grows with everything that happens.
    pub(super) changes: u64,
    /// Which node it is.
    pub(super) node: usize,
    /// The groups on it.
    pub(super) groups: &'a BTreeSet<String>,
    /// Effects that are yet to take place.
    pub(super) late: usize,
}

impl Stats {
    /// How many there were of each kind.
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Counts a request. Each is followed by one `end`.
    pub(super) fn begin(&mut self, visit: &Visit, request: &Request, met: Manner) -> Ticket {
        let counts = &mut self.counts;
        counts.seen += 1;
        counts.under_way += 1;
        match request {
            Request::Call(_) => counts.calls += 1,
            Request::Look(_) => counts.looks += 1,
            Request::Nothing(..) => (),
        }
        if met != Manner::Right {
            *self.faults.entry(met.to_string()).or_default() += 1;
        }
        let place = (self.requests.len() < SIMULATE_REQUESTS_MAX).then(|| {
            self.requests.push(Kept::of(visit, request, met));
            self.requests.len() - 1
        });
        counts.not_kept += u64::from(place.is_none());
        Ticket { place }
    }

    /// Notes what a request did, at this time.
    pub(super) fn did(&mut self, ticket: Ticket, did: Did, at_us: u64) {
        if let Some(place) = ticket.place {
            let kept = &mut self.requests[place];
            kept.did = did;
            let is_done = matches!(did, Did::Created | Did::Deleted);
            kept.did_at_ms = is_done.then(|| ms(at_us));
        }
    }

    /// Counts what became of it.
    pub(super) fn end(&mut self, ticket: Ticket, outcome: Outcome) {
        self.counts.under_way -= 1;
        *self.by_status.entry(outcome.name()).or_default() += 1;
        if let (Some(place), Outcome::Status(status)) = (ticket.place, outcome) {
            self.requests[place].status = Some(status);
        }
    }

    /// What `GET /stats` shows.
    pub(super) fn report<'a>(&'a self, shown: Shown<'a>, choice: Choice<'_>) -> impl Serialize {
        let is_chosen =
            |kept: &&Kept| choice.group.is_none() || kept.group.as_deref() == choice.group;
        let requests: Vec<&Kept> = self.requests.iter().filter(is_chosen).collect();
        let skipped = choice.last.map_or(0, |last| requests.len().saturating_sub(last));
        Report {
            shown,
            counts: self.counts,
            faults: &self.faults,
            by_status: &self.by_status,
            requests: requests.into_iter().skip(skipped).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    shown: Shown<'a>,
    #[serde(flatten)]
    counts: Counts,
    faults: &'a BTreeMap<String, u64>,
    by_status: &'a BTreeMap<String, u64>,
    requests: Vec<&'a Kept>,
}
