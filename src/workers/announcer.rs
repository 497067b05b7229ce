//! Tells of dead letters: sweeps whenever there may be some that nobody was told of.
//!
//! It is woken by the writer, and wakes itself when the next lease lapses, because a lapse is no
//! record. What is told, and to whom, is decided in `engine::decide::deaths`.

use std::future::{Future, pending};
use std::pin::pin;
use std::time::Duration;

use tokio::time::sleep;

use crate::engine::Engine;
use crate::engine::command::Rejection;
use crate::engine::deaths::Swept;
use crate::limits::{DEATHS_SWEEP_MS_MIN, OVERLOAD_RETRY_AFTER_S};

/// Sweeps until `drain` completes or the log has failed.
pub async fn run(engine: Engine, drain: impl Future<Output = ()>) {
    let deaths = engine.deaths();
    let mut drain = pin!(drain);
    loop {
        // Registered before the sweep, so that no death in between is missed.
        let mut death = pin!(deaths.notified());
        death.as_mut().enable();
        let wait_ms = match engine.sweep_deaths().await {
            Ok(Swept::Some) => Some(0),
            Ok(Swept::Nothing { next_due_ms }) => next_due_ms.map(|ms| ms.max(DEATHS_SWEEP_MS_MIN)),
            Err(Rejection::OutcomeUnknown) => return,
            Err(rejection) => {
                tracing::warn!(?rejection, "dead letters are not told of yet");
                Some(OVERLOAD_RETRY_AFTER_S * 1000)
            }
        };
        let rest = async {
            match wait_ms {
                Some(0) => {}
                Some(ms) => sleep(Duration::from_millis(ms)).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            () = &mut drain => return,
            () = death => {}
            () = rest => {}
        }
    }
}
