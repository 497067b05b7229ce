//! The same load without and during a compaction, by turns in one run.
//!
//! Each round measures for the given time, then asks `POST /admin/snapshot` and measures until
//! that is answered. Only requests of that time count, so a short compaction gives few of them:
//! the report shows how many. All rounds of a side are put together, since quantiles of short
//! runs scatter.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::cli::bench::connection::Connection;
use crate::cli::bench::contender::{Contender, Name};
use crate::cli::bench::fault::Fault;
use crate::cli::bench::machine;
use crate::cli::bench::metrics::Commits;
use crate::cli::bench::pace::Span;
use crate::cli::bench::plan::Scenario;
use crate::cli::bench::report::Comparison;
use crate::cli::bench::server::Server;
use crate::cli::bench::tally::Tally;
use crate::cli::bench::target::Target;
use crate::limits::BENCH_COMPACTION_RETRY_MS;

/// Measures the scenario by turns.
pub(crate) async fn compare(
    contender: &mut Contender,
    scenario: Scenario,
    time: Duration,
    rounds: usize,
) -> Result<Comparison, Fault> {
    let target = Arc::clone(contender.target());
    let before = Commits::read(&target).await;
    contender.run(&scenario, Span::For(scenario.warm_up)).await?;
    let (mut quiet, mut compacting) = (Tally::new(), Tally::new());
    for _ in 0..rounds {
        quiet.merge(&contender.run(&scenario, Span::For(time)).await?);
        let done = Arc::new(AtomicBool::new(false));
        let compaction = tokio::spawn(compact(Arc::clone(&target), Arc::clone(&done)));
        compacting.merge(&contender.run(&scenario, Span::Until(done)).await?);
        let ended = compaction.await;
        ended.unwrap_or_else(|ended| std::panic::resume_unwind(ended.into_panic()))?;
    }
    let after = Commits::read(&target).await;
    let server = contender.server();
    let directory = server.and_then(Server::directory);
    let figures = |tally: &Tally| vec![tally.figures(&Vec::new())];
    Ok(Comparison {
        scenario,
        rounds: vec![(Name::Sillage, figures(&quiet)), (Name::Compacting, figures(&compacting))],
        commits: after.zip(before).map(|(after, before)| after.since(before)),
        resident_bytes: server.map(Server::resident_bytes),
        is_in_memory: directory.is_some_and(machine::is_in_memory),
        load: machine::load(),
    })
}

/// Lets the server compact and sets the flag when it has, or has not.
async fn compact(target: Arc<Target>, done: Arc<AtomicBool>) -> Result<(), Fault> {
    let asked = async {
        let mut connection = Connection::open(&target).await?;
        loop {
            target.post_nothing("/admin/snapshot", connection.request());
            let answer = connection.exchange().await?;
            if !answer.is_turned_away() {
                return answer.expect(200);
            }
            tokio::time::sleep(Duration::from_millis(BENCH_COMPACTION_RETRY_MS)).await;
        }
    };
    let outcome = asked.await;
    done.store(true, Ordering::Relaxed);
    outcome
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::AtomicU64;

    use bytes::Bytes;
    use http_body_util::{BodyExt as _, Full};
    use hyper::body::Incoming;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use hyper_util::rt::TokioIo;
    use tokio::net::TcpListener;
    use tokio::sync::Notify;

    use super::*;
    use crate::cli::bench::consume::Consume;
    use crate::cli::bench::drive::drive;
    use crate::cli::bench::pace::Pace;

    /// Leases that a compaction of the double takes.
    const LEASES: u64 = 50;

    /// A server whose compaction takes until so many leases have come meanwhile.
    #[derive(Default)]
    struct Double {
        leases: AtomicU64,
        leased: Notify,
    }

    impl Double {
        async fn answer(
            self: Arc<Self>,
            request: Request<Incoming>,
        ) -> Result<Response<Full<Bytes>>, Infallible> {
            let path = request.uri().path().to_owned();
            let _body = request.into_body().collect().await;
            if path == "/admin/snapshot" {
                let end = self.leases.load(Ordering::Relaxed) + LEASES;
                while self.leases.load(Ordering::Relaxed) < end {
                    self.leased.notified().await;
                }
                return Ok(Response::new(Full::default()));
            }
            self.leases.fetch_add(1, Ordering::Relaxed);
            self.leased.notify_one();
            let number = self.leases.load(Ordering::Relaxed);
            let message = format!(r#"{{"messages":[{{"id":"{number}","receipt":"r"}}]}}"#);
            let answer = if path.ends_with("/lease") {
                message
            } else {
                r#"{"done":["1"],"stale":[]}"#.to_owned()
            };
            Ok(Response::new(Full::from(answer)))
        }

        async fn serve(self: Arc<Self>) -> Arc<Target> {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let double = Arc::clone(&self);
                    let service = service_fn(move |request| Arc::clone(&double).answer(request));
                    let connection =
                        http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                    tokio::spawn(connection);
                }
            });
            Arc::new(Target::at(address))
        }
    }

    #[tokio::test]
    async fn the_load_goes_on_until_the_compaction_is_answered() {
        let target = Arc::new(Double::default()).serve().await;
        let done = Arc::new(AtomicBool::new(false));
        let compaction = tokio::spawn(compact(Arc::clone(&target), Arc::clone(&done)));
        let works = [Consume::new(1, &Arc::default())];
        let tally = drive(&target, works, Pace::Closed, Span::Until(done)).await.unwrap();
        compaction.await.unwrap().unwrap();
        assert!(tally.figures(&Vec::new()).requests >= LEASES);
    }

    #[tokio::test]
    async fn a_server_that_cannot_compact_ends_the_load() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Arc::new(Target::at(listener.local_addr().unwrap()));
        drop(listener);
        let done = Arc::new(AtomicBool::new(false));
        assert!(compact(target, Arc::clone(&done)).await.is_err());
        assert!(done.load(Ordering::Relaxed));
    }
}
