//! Calls to the authority that are for no message: is a signature its own, and is it there?
//!
//! They go through the same gate and count like any other. Each is a task of its own: whoever
//! asked may leave, but a call that was begun is ended.

use std::future::Future;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::engine::Engine;
use crate::engine::command::Rejection;
use crate::engine::command::seals::{CallBegin, Opening, Purpose};
use crate::ids::Lsn;
use crate::limits::OVERLOAD_RETRY_AFTER_S;
use crate::outbound::authority::CallOutcome;
use crate::workers::signatory::Sealing;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// No call may begin in time; one may after so many milliseconds.
    Closed {
        /// Milliseconds; at least 1.
        opens_in_ms: u64,
    },
    /// The call was made, but its answer did not come in time.
    Late,
    /// The engine does not take it.
    Refused(Rejection),
}

/// Makes a call by `ends`, once the gate lets it through. `calling` makes the call.
///
/// # Errors
/// See [`NoAnswer`].
pub async fn enquire<T, C, F>(
    engine: &Engine,
    sealing: &Sealing,
    purpose: Purpose,
    ends: Instant,
    calling: C,
) -> Result<CallOutcome<T>, NoAnswer>
where
    T: Send + Sync + 'static,
    C: FnOnce(&Sealing) -> F + Send + 'static,
    F: Future<Output = CallOutcome<T>> + Send + 'static,
{
    let (engine, sealing) = (engine.clone(), sealing.clone());
    let (answer, answered) = oneshot::channel();
    tokio::spawn(async move {
        let outcome = match begin(&engine, &sealing, purpose, ends).await {
            Ok(call) => {
                let outcome = calling(&sealing).await;
                end(&engine, &sealing, call, &outcome).await;
                Ok(outcome)
            }
            Err(refused) => Err(refused),
        };
        // Who asked may have left.
        drop(answer.send(outcome));
    });
    match timeout_at(ends, answered).await {
        Ok(answered) => answered.unwrap_or(Err(NoAnswer::Late)),
        Err(_) => Err(NoAnswer::Late),
    }
}

/// Waits for the gate and begins a call.
async fn begin(
    engine: &Engine,
    sealing: &Sealing,
    purpose: Purpose,
    ends: Instant,
) -> Result<Lsn, NoAnswer> {
    let Sealing { limit, deadline_ms, .. } = *sealing;
    loop {
        // Before the gate is asked, so that no end in between is missed.
        let ended = engine.call_ended();
        let begin = CallBegin { purpose, limit, deadline_ms };
        match engine.begin_call(begin).await.map_err(NoAnswer::Refused)? {
            Ok(call) => return Ok(call),
            Err(Opening::InMs(ms)) => {
                let opens = Instant::now() + Duration::from_millis(ms);
                if opens >= ends {
                    return Err(NoAnswer::Closed { opens_in_ms: ms });
                }
                sleep_until(opens).await;
            }
            Err(Opening::Full) => {
                let closed = NoAnswer::Closed { opens_in_ms: deadline_ms + limit.window_ms };
                timeout_at(ends, ended).await.map_err(|_| closed)?;
            }
            Err(Opening::Open) => {}
        }
    }
}

/// Records the end of the call. If that fails the call counts as under way until the next start,
/// which is the safe side.
async fn end<T>(engine: &Engine, sealing: &Sealing, call: Lsn, outcome: &CallOutcome<T>) {
    let pause_ms = match outcome {
        CallOutcome::TooMany { retry_after_ms } => {
            retry_after_ms.unwrap_or(0).max(sealing.backoff.base_ms)
        }
        CallOutcome::Unauthorised => sealing.backoff.base_ms,
        CallOutcome::Done(_) | CallOutcome::Failed { .. } => 0,
    };
    loop {
        match engine.end_call(call, pause_ms).await {
            Ok(()) => return,
            Err(Rejection::Overloaded { .. } | Rejection::DiskFull) => {
                tokio::time::sleep(Duration::from_secs(OVERLOAD_RETRY_AFTER_S)).await;
            }
            Err(rejection) => {
                tracing::error!(%call, ?rejection, "the end of a call could not be recorded");
                return;
            }
        }
    }
}
