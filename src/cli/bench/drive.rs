//! The load generator: one thread, one connection per work, every answer checked.
//!
//! ```text
//! drive ─► N tasks: Work::ask ─► Connection::exchange ─► Work::take ─► Tally
//! ```
//!
//! Generator and servers share the machine. What the generator spends is taken from the server,
//! so requests are copied from templates, answers are scanned rather than parsed, what is costly
//! to check is kept as evidence and checked after the run, and the same generator drives every
//! server that is compared.

use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cli::bench::connection::{Answer, Connection};
use crate::cli::bench::fault::Fault;
use crate::cli::bench::pace::{Arrivals, Pace, Span};
use crate::cli::bench::tally::Tally;
use crate::cli::bench::target::Target;

/// What one connection asks, again and again.
pub(crate) trait Work: Send + 'static {
    /// Appends the next request; breaks when there is nothing more to ask.
    fn ask(&mut self, target: &Target, request: &mut Vec<u8>) -> ControlFlow<()>;

    /// Checks the answer and gives how many units of work it completes.
    ///
    /// # Errors
    /// If the answer is not what it must be.
    fn take(&mut self, answer: Answer<'_>) -> Result<u64, Fault>;

    /// Whether the run may end here. A lease is followed by its ack first.
    fn may_end(&self) -> bool {
        true
    }

    /// Checks what was kept for after the run.
    ///
    /// # Errors
    /// If an answer was not what it must be.
    fn verify(&mut self) -> Result<(), Fault> {
        Ok(())
    }
}

/// What all connections of a run share.
struct Run {
    target: Arc<Target>,
    began: Instant,
    span: Span,
    arrivals: Option<Arc<Arrivals>>,
    tally: Mutex<Tally>,
}

/// Runs each work on a connection of its own; all are connected before the first request is sent.
/// Gives the tally once every answer is verified.
pub(crate) async fn drive<W: Work>(
    target: &Arc<Target>,
    works: impl IntoIterator<Item = W>,
    pace: Pace,
    span: Span,
) -> Result<Tally, Fault> {
    let mut connected = Vec::new();
    for work in works {
        connected.push((Connection::open(target).await?, work));
    }
    let began = Instant::now();
    let arrivals = match pace {
        Pace::Closed => None,
        Pace::Open { per_s } => Some(Arc::new(Arrivals::new(began, per_s))),
    };
    let (target, tally) = (Arc::clone(target), Mutex::new(Tally::new()));
    let run = Arc::new(Run { target, began, span, arrivals, tally });
    // Dropping the set ends the tasks: the first wrong answer ends the run.
    let mut tasks = JoinSet::new();
    for (connection, work) in connected {
        tasks.spawn(toil(Arc::clone(&run), connection, work));
    }
    let mut releasing = pin!(async {
        match &run.arrivals {
            Some(arrivals) => arrivals.run(run.span.clone()).await,
            None => Ok(()),
        }
    });
    let (mut works, mut is_released) = (Vec::new(), false);
    loop {
        tokio::select! {
            released = &mut releasing, if !is_released => {
                released?;
                is_released = true;
            }
            done = tasks.join_next() => match done {
                Some(Ok(done)) => works.push(done?),
                Some(Err(ended)) => std::panic::resume_unwind(ended.into_panic()),
                None => break,
            },
        }
    }
    let elapsed = began.elapsed();
    for work in &mut works {
        work.verify()?;
    }
    let mut tally = run.tally.lock().expect("no panic holds this lock").clone();
    let unsent = run.arrivals.as_ref().map_or(0, |arrivals| arrivals.unsent());
    (tally.elapsed, tally.unsent) = (elapsed, unsent);
    Ok(tally)
}

async fn toil<W: Work>(run: Arc<Run>, mut connection: Connection, mut work: W) -> Result<W, Fault> {
    let mut begin = Instant::now();
    loop {
        match &run.arrivals {
            Some(arrivals) => match arrivals.take().await {
                Some(due) => begin = due,
                None if work.may_end() => return Ok(work),
                None => begin = Instant::now(),
            },
            None if !run.span.lasts(run.began, begin) && work.may_end() => return Ok(work),
            None => {}
        }
        if work.ask(&run.target, connection.request()).is_break() {
            run.tally.lock().expect("no panic holds this lock").idle += 1;
            return Ok(work);
        }
        let answer = connection.exchange().await?;
        let now = Instant::now();
        if answer.is_turned_away() {
            run.tally.lock().expect("no panic holds this lock").turned_away += 1;
        } else {
            let units = work.take(answer)?;
            let mut tally = run.tally.lock().expect("no panic holds this lock");
            tally.note(now.saturating_duration_since(begin), units);
        }
        begin = now;
    }
}
