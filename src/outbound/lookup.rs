//! What a name stands for, asked of the system.
//!
//! The system's resolver (`getaddrinfo`) is the one that the operator has configured: files, name
//! servers, what a container brings along. It can only be called and waited for, on the worst
//! days for half a minute, so it needs a thread. Not the runtime's blocking thread: there is one,
//! and large bodies are parsed on it; a slow name server would stop intake, and a large body
//! deliveries. So each look-up has a thread for as long as it lasts (some 20 µs to start, beside
//! a question over the network), and no more than `LOOKUPS_MAX` of them are under way per client:
//! who hangs keeps his place until the system gives up on him, and others wait for theirs within
//! their own deadline. Clients for strangers' names and for the operator's are apart, so that
//! strangers cannot take all places from the authority.
//!
//! Nothing is remembered: what a name stood for is old when it is used again, and connections
//! that are used again need no look-up.

use std::fmt::Debug;
use std::future::Future;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::Arc;
use std::thread;

use tokio::sync::{Semaphore, oneshot};

use crate::limits::LOOKUPS_MAX;

/// What a name stands for: in the order in which to try, with the port that was asked for.
pub type LookedUp = Result<Vec<SocketAddr>, Unresolvable>;

/// The name stands for no address, as far as can be found out now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unresolvable;

/// Whoever says what a name stands for. Nothing that he says is trusted.
pub trait Lookup: Debug + Send + Sync {
    /// The addresses of `name`, each with `port`. May take as long as it likes.
    fn lookup(&self, name: &str, port: u16) -> Pin<Box<dyn Future<Output = LookedUp> + Send>>;
}

/// The system's resolver.
#[derive(Clone, Debug)]
pub struct SystemLookup {
    places: Arc<Semaphore>,
}

impl SystemLookup {
    /// A resolver that has `LOOKUPS_MAX` look-ups under way at most.
    #[must_use]
    pub fn new() -> SystemLookup {
        SystemLookup { places: Arc::new(Semaphore::new(LOOKUPS_MAX)) }
    }
}

impl Default for SystemLookup {
    fn default() -> Self {
        SystemLookup::new()
    }
}

impl Lookup for SystemLookup {
    fn lookup(&self, name: &str, port: u16) -> Pin<Box<dyn Future<Output = LookedUp> + Send>> {
        let (places, name) = (Arc::clone(&self.places), name.to_owned());
        Box::pin(async move {
            let place = places.acquire_owned().await.map_err(|_| Unresolvable)?;
            let (found, finding) = oneshot::channel();
            let look = move || {
                let addresses = (name.as_str(), port).to_socket_addrs();
                let _ = found.send(addresses.map(Iterator::collect).map_err(|_| Unresolvable));
                // Also when nobody waits any more: the place is taken as long as the thread is.
                drop(place);
            };
            let started = thread::Builder::new().name("sillage-lookup".to_owned()).spawn(look);
            started.map_err(|_| Unresolvable)?;
            finding.await.unwrap_or(Err(Unresolvable))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn localhost_is_found_and_what_cannot_exist_is_not() {
        let system = SystemLookup::new();
        let found = system.lookup("localhost", 8080).await.expect("every system knows localhost");
        assert!(found.iter().all(|it| it.ip().is_loopback() && it.port() == 8080), "{found:?}");
        assert!(!found.is_empty());
        for name in ["", "a..b", "no\0name", &"a".repeat(300)] {
            assert_eq!(system.lookup(name, 80).await, Err(Unresolvable), "{name:?}");
        }
    }

    #[tokio::test]
    async fn a_look_up_beyond_the_bound_waits_for_a_place() {
        let system = SystemLookup::new();
        let all = u32::try_from(LOOKUPS_MAX).expect("small");
        let places = system.places.clone().acquire_many_owned(all).await.expect("open");
        let mut looking = system.lookup("127.0.0.1", 80);
        let is_waiting = poll_fn(|cx| Poll::Ready(looking.as_mut().poll(cx).is_pending()));
        assert!(is_waiting.await);
        drop(places);
        assert_eq!(looking.await, Ok(vec!["127.0.0.1:80".parse().expect("an address")]));
        // The thread gives its place back after it has answered.
        let _all_again = system.places.acquire_many(all).await.expect("open");
    }
}
