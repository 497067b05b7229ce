//! What is counted about hooks.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Deliveries and what became of them.
#[derive(Clone, Debug)]
pub struct HookMetrics {
    deliveries: Family<OutcomeLabel, Counter>,
    /// Seconds of one call.
    pub call_seconds: Histogram,
    /// Calls under way.
    pub calls: Gauge,
}

/// Bounds in seconds of what a call may take, up to the longest deadline.
const SECONDS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0];

/// What became of a delivery in one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryResult {
    /// It was taken.
    Delivered,
    /// It is tried again.
    Failed,
    /// It is a dead letter.
    Dead,
    /// There was no call.
    PutOff,
    /// Its hook was deleted.
    Dropped,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

impl Default for HookMetrics {
    fn default() -> HookMetrics {
        let call_seconds = Histogram::new(SECONDS);
        HookMetrics { deliveries: Family::default(), call_seconds, calls: Gauge::default() }
    }
}

impl HookMetrics {
    pub(super) fn register(&self, all: &mut Registry) {
        let deliveries = self.deliveries.clone();
        all.register("hook_deliveries", "Attempts to deliver by outcome", deliveries);
        let seconds = self.call_seconds.clone();
        all.register_with_unit("hook_call", "Time of one call to a hook", Unit::Seconds, seconds);
        all.register("hook_calls_open", "Calls to hooks under way", self.calls.clone());
    }

    /// Counts an attempt.
    pub fn note(&self, result: DeliveryResult) {
        let outcome = match result {
            DeliveryResult::Delivered => "delivered",
            DeliveryResult::Failed => "failed",
            DeliveryResult::Dead => "dead",
            DeliveryResult::PutOff => "put_off",
            DeliveryResult::Dropped => "dropped",
        };
        self.deliveries.get_or_create(&OutcomeLabel { outcome }).inc();
    }
}
