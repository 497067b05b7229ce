//! What is counted about seals.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Calls to the authority and what they bring.
#[derive(Clone, Debug, Default)]
pub struct SealMetrics {
    calls: Family<ResultLabel, Counter>,
    /// 1 while the authority does not accept the key, else 0: the alarm.
    pub unauthorised: Gauge,
    /// Requests for a seal by how the first answer told of it.
    requests: Family<AnswerLabel, Counter>,
}

/// What came of a call for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallResult {
    /// A signature.
    Sealed,
    /// Nothing of use.
    Failed,
    /// 429.
    TooMany,
    /// 401 or 403.
    Unauthorised,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabel {
    answer: &'static str,
}

impl SealMetrics {
    pub(super) fn register(&self, all: &mut Registry) {
        let (calls, requests) = (self.calls.clone(), self.requests.clone());
        all.register("seal_calls", "Calls for a seal by what came of them", calls);
        all.register("seal_requests", "Requests for a seal by how they were answered", requests);
        all.register(
            "seal_authority_unauthorised",
            "1 while the authority does not accept the key",
            self.unauthorised.clone(),
        );
    }

    /// Counts a call.
    pub fn note(&self, result: CallResult) {
        let name = match result {
            CallResult::Sealed => "sealed",
            CallResult::Failed => "failed",
            CallResult::TooMany => "too_many",
            CallResult::Unauthorised => "unauthorised",
        };
        self.calls.get_or_create(&ResultLabel { result: name }).inc();
        match result {
            CallResult::Unauthorised => drop(self.unauthorised.set(1)),
            CallResult::Sealed | CallResult::Failed => drop(self.unauthorised.set(0)),
            CallResult::TooMany => {}
        }
    }

    /// Counts a request that was answered with the seal.
    pub fn note_sealed(&self) {
        self.requests.get_or_create(&AnswerLabel { answer: "sealed" }).inc();
    }

    /// Counts a request that was told to wait.
    pub fn note_pending(&self) {
        self.requests.get_or_create(&AnswerLabel { answer: "pending" }).inc();
    }
}
