//! When requests are sent: as soon as the last one is answered, or at times fixed beforehand.
//!
//! A closed loop asks the next question when the last one is answered, so a server that stalls is
//! asked less while it stalls, and the stall counts once for each connection. An open loop does
//! what many independent clients do: request number n is due at `n / rate`, whatever became of
//! the others. It takes the first connection that is free, and its latency counts from when it
//! was due. So a stall shows in every request that it held up.
//!
//! A thread of its own waits for the due times on a timer of the kernel, since the runtime's own
//! has steps of a millisecond. Requests leave some ten microseconds late for it, and the latencies
//! include that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use crate::cli::bench::fault::Fault;
use crate::limits::{BENCH_BACKLOG_CHECK_MS, BENCH_BACKLOG_MS_MAX};

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// When the last one is answered.
    Closed,
    /// So many per second, evenly, over all connections.
    Open { per_s: f64 },
}

/// How long a run lasts.
#[derive(Clone, Debug)]
pub(crate) enum Span {
    /// This long.
    For(Duration),
    /// Until the flag is set.
    Until(Arc<AtomicBool>),
}

impl Span {
    /// Whether a run that began then still lasts.
    pub(crate) fn lasts(&self, began: Instant, now: Instant) -> bool {
        match self {
            Span::For(time) => now < began + *time,
            Span::Until(flag) => !flag.load(Ordering::Relaxed),
        }
    }
}

/// The requests of an open loop.
pub(crate) struct Arrivals {
    began: Instant,
    per_s: f64,
    /// The number of the next request that a connection takes.
    next: AtomicU64,
    /// Requests that have become due.
    released: AtomicU64,
    /// Requests that are due and not taken. Closed at the end.
    due: Semaphore,
    /// How long it is waited at the end until all that are due are taken.
    backlog_max: Duration,
}

impl Arrivals {
    /// Requests that begin then.
    pub(crate) fn new(began: Instant, per_s: f64) -> Arrivals {
        let backlog_max = Duration::from_millis(BENCH_BACKLOG_MS_MAX);
        let (next, released) = (AtomicU64::new(0), AtomicU64::new(0));
        Arrivals { began, per_s, next, released, due: Semaphore::new(0), backlog_max }
    }

    /// Waits for a request that is due and gives when it was; `None` when there are no more.
    pub(crate) async fn take(&self) -> Option<Instant> {
        self.due.acquire().await.ok()?.forget();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Some(self.due_at(number))
    }

    fn due_at(&self, number: u64) -> Instant {
        self.began + Duration::from_secs_f64(number as f64 / self.per_s)
    }

    /// Lets requests come while the span lasts, then waits until they are taken, but not for
    /// ever.
    pub(crate) async fn run(self: &Arc<Self>, span: Span) -> Result<(), Fault> {
        // Ends the thread when nobody waits for it any more.
        let closing = Closing(self);
        let (arrivals, (done, released)) = (Arc::clone(self), oneshot::channel());
        std::thread::spawn(move || drop(done.send(arrivals.release(&span))));
        let lost = |_| Fault::Timer(std::io::ErrorKind::BrokenPipe.into());
        released.await.map_err(lost)?.map_err(Fault::Timer)?;
        let ended = Instant::now();
        while self.due.available_permits() > 0 && ended.elapsed() < self.backlog_max {
            tokio::time::sleep(Duration::from_millis(BENCH_BACKLOG_CHECK_MS)).await;
        }
        drop(closing);
        Ok(())
    }

    /// Requests that were due and that nobody took, once nobody takes any more. Not what is left
    /// in the semaphore: who is being woken when it closes goes away empty-handed.
    pub(crate) fn unsent(&self) -> u64 {
        self.released.load(Ordering::Relaxed) - self.next.load(Ordering::Relaxed)
    }

    /// Releases each request when it is due.
    fn release(&self, span: &Span) -> std::io::Result<()> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
        let mut number = 0;
        while !self.due.is_closed() {
            let now = Instant::now();
            let mut count = 0;
            while self.due_at(number) <= now && span.lasts(self.began, self.due_at(number)) {
                number += 1;
                count += 1;
            }
            self.released.fetch_add(count as u64, Ordering::Relaxed);
            self.due.add_permits(count);
            let next = self.due_at(number);
            if !span.lasts(self.began, next) {
                break;
            }
            wait(&timer, next.saturating_duration_since(Instant::now()))?;
        }
        Ok(())
    }
}

/// Closes the requests when it is dropped.
struct Closing<'a>(&'a Arrivals);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.due.close();
    }
}

/// Waits on a timer of the kernel.
fn wait(timer: &OwnedFd, time: Duration) -> std::io::Result<()> {
    let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
    // A time of zero would disarm the timer.
    let time = time.max(Duration::from_nanos(1));
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    let value = Timespec { tv_sec: seconds, tv_nsec: time.subsec_nanos().into() };
    let spec = Itimerspec { it_interval: zero, it_value: value };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &spec)?;
    rustix::io::retry_on_intr(|| rustix::io::read(timer, &mut [0; size_of::<u64>()]))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_are_due_evenly_and_counted_when_nobody_takes_them() {
        let began = Instant::now();
        let backlog_max = Duration::from_millis(1);
        let arrivals = Arc::new(Arrivals { backlog_max, ..Arrivals::new(began, 1000.0) });
        let taker = async {
            let mut due = Vec::new();
            while due.len() < 15 {
                due.extend(arrivals.take().await);
            }
            due
        };
        let (ended, due) = tokio::join!(arrivals.run(Span::For(Duration::from_millis(20))), taker);
        ended.expect("the timer ticks");
        let expected = (0..15).map(|ms| began + Duration::from_millis(ms));
        assert_eq!(due, expected.collect::<Vec<_>>());
        assert_eq!(arrivals.unsent(), 5);
        assert_eq!(arrivals.take().await, None);
    }
}
