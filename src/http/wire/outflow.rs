//! How a client takes its response.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::RESPONSE_BYTES_PER_S_MIN;

/// The bytes of one response, and the time spent waiting for the client to take them.
///
/// As with bodies, only waiting counts, so that a response that is slow to make is nobody's
/// fault. A client that takes a byte now and then wins little time by each.
#[derive(Debug, Default)]
pub(super) struct Outflow {
    sent: u64,
    /// Time spent waiting, this wait excluded.
    waited: Duration,
    /// Since when the socket takes no more bytes.
    blocked_since: Option<Instant>,
}

impl Outflow {
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked_since.is_some()
    }

    /// The socket has taken so many bytes.
    pub(super) fn note_sent(&mut self, bytes: u64) {
        self.sent += bytes;
        if let Some(since) = self.blocked_since.take() {
            self.waited += since.elapsed();
        }
    }

    /// The socket takes no bytes: until when that may go on.
    pub(super) fn deadline(&mut self, patience: Duration) -> Instant {
        let at_minimum_rate = Duration::from_secs(self.sent / RESPONSE_BYTES_PER_S_MIN);
        let altogether = patience.saturating_add(at_minimum_rate);
        let since = *self.blocked_since.get_or_insert_with(Instant::now);
        since + altogether.saturating_sub(self.waited).min(patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// How many times a client that takes so many bytes every nineteen seconds is waited for.
    async fn waits(bytes: u64) -> usize {
        let mut outflow = Outflow::default();
        let pause = Duration::from_secs(19);
        (0..1000)
            .take_while(|_| {
                let patience = outflow.deadline(PATIENCE) - Instant::now();
                outflow.blocked_since = Some(Instant::now() - pause);
                outflow.note_sent(bytes);
                patience >= pause
            })
            .count()
    }

    #[tokio::test(start_paused = true)]
    async fn single_bytes_win_no_time_and_the_minimum_rate_all() {
        tokio::time::advance(PATIENCE).await;
        assert_eq!(waits(1).await, 1);
        assert_eq!(waits(19 * RESPONSE_BYTES_PER_S_MIN).await, 1000);
        assert_eq!(waits(18 * RESPONSE_BYTES_PER_S_MIN).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_blocked_costs_no_patience() {
        let mut outflow = Outflow::default();
        tokio::time::advance(10 * PATIENCE).await;
        outflow.note_sent(1);
        assert_eq!(outflow.deadline(PATIENCE), Instant::now() + PATIENCE);
    }
}
