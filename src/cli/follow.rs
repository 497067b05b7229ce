//! Waiting for the end of a transaction.
//!
//! The call that begins it or tries it again prefers to wait (`Prefer: wait`), so that the end is
//! known without asking. What is not at an end by then is asked for, at first often and then less
//! so, until the time is over. The server carries it out whether or not anybody waits.

use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::Instant;

use crate::cli::failure::Failure;
use crate::cli::http_client::{Call, HttpClient};
use crate::cli::retry::{call_patiently, grown_ms, jittered_ms, retry_calls, success};
use crate::cli::span::Span;
use crate::cli::system;
use crate::cli::transacted::Told;
use crate::limits::{CLIENT_POLL_BASE_MS, CLIENT_POLL_CAP_MS, CLIENT_PREFER_WAIT_S_MAX};
use crate::state::releases::Phase;

/// How long to wait.
#[derive(Debug, clap::Args)]
pub(crate) struct WaitArgs {
    /// How long to wait for the end, such as 10s or 5m; 0 does not wait
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    pub(crate) wait: Span,
}

/// Where a transaction is asked for.
pub(crate) fn target_of(transaction: &str) -> String {
    format!("/transactions/{}", utf8_percent_encode(transaction, NON_ALPHANUMERIC))
}

/// Whoever waits for one transaction.
pub(crate) struct Follower<'a> {
    client: &'a HttpClient,
    random: fastrand::Rng,
    time: Countdown,
}

/// Time that begins to run when it is first asked for, so that the first call is given all of it.
struct Countdown {
    whole: Duration,
    began: Option<Instant>,
}

impl Countdown {
    /// What is left of it.
    fn left(&mut self) -> Duration {
        match self.began {
            Some(began) => self.whole.saturating_sub(began.elapsed()),
            None => {
                self.began = Some(Instant::now());
                self.whole
            }
        }
    }
}

impl<'a> Follower<'a> {
    /// One whose time begins with the first call.
    ///
    /// # Errors
    /// If the system has no randomness to give.
    pub(crate) fn new(client: &'a HttpClient, wait: &WaitArgs) -> Result<Follower<'a>, Failure> {
        let random = fastrand::Rng::with_seed(system::fresh_seed()?);
        let time = Countdown { whole: wait.wait.0, began: None };
        Ok(Follower { client, random, time })
    }

    /// Makes a call that may be repeated and is answered with a transaction; each attempt prefers
    /// to wait for what is left of the time.
    ///
    /// # Errors
    /// If there is no answer, or a refusal.
    pub(crate) async fn ask(&mut self, call: &Call) -> Result<Told, Failure> {
        let time = &mut self.time;
        let attempt = || call.clone().preferring_to_wait(preferred_s(time.left()));
        let answer = retry_calls(self.client, attempt, &mut self.random).await?;
        Ok(Told::of(&success(answer)?, self.client)?)
    }

    /// Makes such a call once, for what must not be repeated.
    ///
    /// # Errors
    /// If there is no answer, or a refusal.
    pub(crate) async fn ask_once(&mut self, call: &Call) -> Result<Told, Failure> {
        let call = call.clone().preferring_to_wait(preferred_s(self.time.left()));
        let answer = self.client.call(&call).await?;
        Ok(Told::of(&success(answer)?, self.client)?)
    }

    /// Asks for the transaction until it is at an end or the time is over; gives the latest that
    /// is known of it, and why no more is known, if so.
    pub(crate) async fn follow(&mut self, mut told: Told) -> (Told, Result<(), Failure>) {
        let call = Call::get(target_of(&told.transaction.id));
        let mut polls = 0;
        while !matches!(told.transaction.state, Phase::Ended(_)) {
            let left = self.time.left();
            if left.is_zero() {
                break;
            }
            polls += 1;
            let pause_ms = grown_ms(CLIENT_POLL_BASE_MS, CLIENT_POLL_CAP_MS, polls);
            let pause_ms = jittered_ms(pause_ms, self.random.u64(..));
            tokio::time::sleep(Duration::from_millis(pause_ms).min(left)).await;
            match self.look(&call).await {
                Ok(later) => told = later,
                Err(failure) => return (told, Err(failure)),
            }
        }
        (told, Ok(()))
    }

    async fn look(&mut self, call: &Call) -> Result<Told, Failure> {
        let answer = success(call_patiently(self.client, call, &mut self.random).await?)?;
        Ok(Told::of(&answer, self.client)?)
    }
}

/// The whole seconds of it that one call may wait.
fn preferred_s(left: Duration) -> u64 {
    left.as_secs().min(CLIENT_PREFER_WAIT_S_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_waits_for_whole_seconds_and_not_past_its_own_deadline() {
        assert_eq!(preferred_s(Duration::ZERO), 0);
        assert_eq!(preferred_s(Duration::from_millis(1999)), 1);
        assert_eq!(preferred_s(Duration::MAX), CLIENT_PREFER_WAIT_S_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_call_is_given_all_the_time_and_later_ones_what_is_left() {
        let mut time = Countdown { whole: Duration::from_secs(10), began: None };
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(time.left(), Duration::from_secs(10));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(time.left(), Duration::from_secs(6));
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(time.left(), Duration::ZERO);
    }

    #[test]
    fn ids_are_one_segment_of_the_path() {
        assert_eq!(target_of("42"), "/transactions/42");
        assert_eq!(target_of("a/../b?c"), "/transactions/a%2F%2E%2E%2Fb%3Fc");
    }
}
