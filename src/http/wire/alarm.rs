//! The one timer of a connection.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep};

/// One timer for all deadlines of a connection.
///
/// It may ring too early, for a deadline that has been put off since; then it is set anew. So
/// a deadline that moves with every request costs nothing until it is near.
pub(super) struct Alarm(Pin<Box<Sleep>>);

impl Alarm {
    pub(super) fn new(deadline: Instant) -> Alarm {
        Alarm(Box::pin(tokio::time::sleep_until(deadline)))
    }

    /// Ready when `deadline` has passed.
    pub(super) fn poll(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if deadline < self.0.deadline() {
            self.0.as_mut().reset(deadline);
        }
        loop {
            ready!(self.0.as_mut().poll(cx));
            if self.0.deadline() >= deadline {
                return Poll::Ready(());
            }
            self.0.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_rings_at_the_deadline_asked_for_last() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut alarm = Alarm::new(at(5));
        for deadline in [9, 11] {
            poll_fn(|cx| alarm.poll(at(deadline), cx)).await;
            assert_eq!(start.elapsed().as_secs(), deadline);
        }
        let mut early = Alarm::new(at(100));
        poll_fn(|cx| early.poll(at(20), cx)).await;
        assert_eq!(start.elapsed().as_secs(), 20);
    }
}
