//! What the receiver has seen, as `GET /stats` shows it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cli::simulate::outcome::Outcome;
use crate::cli::simulate::receiver::judge::Verdict;
use crate::cli::simulate::recent::Recent;
use crate::cli::simulate::server::{Visit, ms};
use crate::limits::{SIMULATE_DELIVERIES_MAX, SIMULATE_IDS_MAX};

/// Whether a delivery that was accepted had been before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It had not, or was not accepted.
    Fresh,
    /// It had: whoever sent it did not know, or forgot.
    Duplicate,
}

impl Standing {
    /// What is added to the line of a call.
    pub(super) fn words(self) -> &'static str {
        match self {
            Standing::Fresh => "",
            Standing::Duplicate => " DUPLICATE",
        }
    }
}

/// A delivery at its arrival.
#[derive(Debug, Serialize)]
pub(super) struct Arrival {
    at_ms: f64,
    path: String,
    webhook_id: Option<String>,
    timestamp: Option<String>,
    signature: Option<String>,
    content_type: Option<String>,
    user_agent: Option<String>,
    body: String,
    verdict: Verdict,
    verified: bool,
}

impl Arrival {
    /// What is kept of a call.
    pub(super) fn of(visit: &Visit, verdict: Verdict) -> Arrival {
        let text = |name: &str| visit.header(name).map(str::to_owned);
        Arrival {
            at_ms: ms(visit.at_us),
            path: visit.path.clone(),
            webhook_id: text("webhook-id"),
            timestamp: text("webhook-timestamp"),
            signature: text("webhook-signature"),
            content_type: text("content-type"),
            user_agent: text("user-agent"),
            body: String::from_utf8_lossy(&visit.body).into_owned(),
            verdict,
            verified: verdict == Verdict::Good,
        }
    }
}

/// What a delivery is known by until it ends.
#[derive(Debug)]
pub(super) struct Ticket {
    /// How many calls with its id there were, with this one; 0 without an id.
    pub(super) attempt: u64,
    /// What was found of its signature.
    pub(super) verdict: Verdict,
    id: Option<String>,
    /// Its place among the deliveries, if it is kept.
    place: Option<usize>,
}

/// How many there were of each kind.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Counts {
    /// Deliveries.
    pub(super) calls: u64,
    /// Those answered with 2xx.
    pub(super) accepted: u64,
    /// Those of them whose id had been accepted before.
    pub(super) duplicates: u64,
    /// Those that were signed by somebody else, or changed.
    pub(super) bad_signature: u64,
    /// Those without a signature where one was needed.
    pub(super) unsigned: u64,
    /// Those whose timestamp is too far from now.
    pub(super) old: u64,
    /// Those that were verified and found good.
    pub(super) verified: u64,
    /// Calls of the target of redirects.
    pub(super) redirected: u64,
    /// Deliveries that are not answered yet.
    pub(super) under_way: u64,
    /// Deliveries that were counted and not kept.
    pub(super) not_kept: u64,
}

/// Everything that is counted and kept.
#[derive(Debug)]
pub(super) struct Stats {
    counts: Counts,
    by_status: BTreeMap<String, u64>,
    by_path: BTreeMap<String, u64>,
    ids: Recent<IdCounts>,
    deliveries: Vec<Delivery>,
}

impl Default for Stats {
    fn default() -> Stats {
        Stats {
            counts: Counts::default(),
            by_status: BTreeMap::new(),
            by_path: BTreeMap::new(),
            ids: Recent::new(SIMULATE_IDS_MAX),
            deliveries: Vec::new(),
        }
    }
}

#[derive(Debug, Default)]
struct IdCounts {
    calls: u64,
    accepted: u64,
}

#[derive(Debug, Serialize)]
struct Delivery {
    #[serde(flatten)]
    arrival: Arrival,
    attempt: u64,
    /// `None` until it is answered, and if it never was.
    status: Option<u16>,
}

impl Stats {
    /// How many there were of each kind.
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Counts a call of the target of redirects.
    pub(super) fn redirected(&mut self) {
        self.counts.redirected += 1;
    }

    /// Counts a delivery. Each is followed by one `end`.
    pub(super) fn arrive(&mut self, arrival: Arrival) -> Ticket {
        let (verdict, id) = (arrival.verdict, arrival.webhook_id.clone());
        let counts = &mut self.counts;
        counts.calls += 1;
        counts.under_way += 1;
        match verdict {
            Verdict::Good => counts.verified += 1,
            Verdict::Bad => counts.bad_signature += 1,
            Verdict::Unsigned => counts.unsigned += 1,
            Verdict::Old => counts.old += 1,
            Verdict::Unchecked => (),
        }
        if self.by_path.len() < SIMULATE_DELIVERIES_MAX || self.by_path.contains_key(&arrival.path)
        {
            *self.by_path.entry(arrival.path.clone()).or_default() += 1;
        }
        let attempt = id.as_ref().map_or(0, |id| {
            let counts = self.ids.of(id);
            counts.calls += 1;
            counts.calls
        });
        let place = (self.deliveries.len() < SIMULATE_DELIVERIES_MAX).then(|| {
            self.deliveries.push(Delivery { arrival, attempt, status: None });
            self.deliveries.len() - 1
        });
        self.counts.not_kept += u64::from(place.is_none());
        Ticket { attempt, verdict, id, place }
    }

    /// Counts what became of it.
    pub(super) fn end(&mut self, ticket: &Ticket, outcome: Outcome) -> Standing {
        self.counts.under_way -= 1;
        *self.by_status.entry(outcome.name()).or_default() += 1;
        if let (Some(place), Outcome::Status(status)) = (ticket.place, outcome) {
            self.deliveries[place].status = Some(status);
        }
        if !matches!(outcome, Outcome::Status(200..300)) {
            return Standing::Fresh;
        }
        self.counts.accepted += 1;
        let Some(id) = &ticket.id else {
            return Standing::Fresh;
        };
        let of_id = self.ids.of(id);
        of_id.accepted += 1;
        if of_id.accepted == 1 {
            return Standing::Fresh;
        }
        self.counts.duplicates += 1;
        Standing::Duplicate
    }

    /// What `GET /stats` shows.
    pub(super) fn report(&self, changes: u64) -> impl Serialize + '_ {
        let of_id = |(id, counts): (&String, &IdCounts)| (id.clone(), counts.calls);
        Report {
            changes,
            counts: self.counts,
            by_status: &self.by_status,
            by_path: &self.by_path,
            by_id: self.ids.iter().map(of_id).collect(),
            deliveries: &self.deliveries,
        }
    }
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    changes: u64,
    #[serde(flatten)]
    counts: Counts,
    by_status: &'a BTreeMap<String, u64>,
    by_path: &'a BTreeMap<String, u64>,
    by_id: BTreeMap<String, u64>,
    deliveries: &'a [Delivery],
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(id: &str) -> Arrival {
        Arrival {
            at_ms: 1.5,
            path: "/a".to_owned(),
            webhook_id: Some(id.to_owned()),
            timestamp: None,
            signature: None,
            content_type: None,
            user_agent: None,
            body: "{}".to_owned(),
            verdict: Verdict::Unchecked,
            verified: false,
        }
    }

    #[test]
    fn a_second_acceptance_is_a_duplicate_and_a_retry_after_a_failure_is_none() {
        let mut stats = Stats::default();
        let mut take = |outcome| {
            let ticket = stats.arrive(arrival("msg_1"));
            (ticket.attempt, stats.end(&ticket, outcome))
        };
        assert_eq!(take(Outcome::Status(503)), (1, Standing::Fresh));
        assert_eq!(take(Outcome::Left), (2, Standing::Fresh));
        assert_eq!(take(Outcome::Status(200)), (3, Standing::Fresh));
        assert_eq!(take(Outcome::Status(204)), (4, Standing::Duplicate));
        let counts = stats.counts();
        assert_eq!((counts.calls, counts.accepted, counts.duplicates), (4, 2, 1));
        let report = serde_json::to_value(stats.report(0)).expect("JSON");
        assert_eq!(report["by_id"]["msg_1"], 4);
        assert_eq!(report["by_status"]["left"], 1);
        assert_eq!(report["deliveries"][1]["status"], serde_json::Value::Null);
        assert_eq!(report["deliveries"][2]["status"], 200);
        assert_eq!(report["deliveries"][2]["attempt"], 3);
    }

    #[test]
    fn what_is_kept_is_bounded_and_everything_is_counted() {
        let mut stats = Stats::default();
        for _ in 0..SIMULATE_DELIVERIES_MAX + 2 {
            let ticket = stats.arrive(arrival("msg_1"));
            stats.end(&ticket, Outcome::Status(503));
        }
        assert_eq!(stats.deliveries.len(), SIMULATE_DELIVERIES_MAX);
        assert_eq!(stats.counts().not_kept, 2);
        assert_eq!(stats.counts().calls, SIMULATE_DELIVERIES_MAX as u64 + 2);
    }
}
