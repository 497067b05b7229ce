//! For the tests of the calls: a server without a socket.
//!
//! Requests go through hyper on both sides of an in-memory pipe, so that bodies stream as they
//! do in life, and through the service with all its checks. Only the wire is missing, with its
//! deadlines and limits on heads.

#[cfg(test)]
mod nodes;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::engine::Engine;
use crate::engine::command::LeaseRequest;
use crate::engine::core::{CompactionPolicy, Setting};
use crate::engine::decide::Policy;
use crate::engine::open::open;
use crate::engine::releases::FlowStep;
use crate::formula::Rules;
use crate::http::connection::{Exchange, Link};
use crate::http::hooks::SecretSource;
use crate::http::routes::{NodeRole, Served};
use crate::http::service::Service;
use crate::http::shutdown::{Shutdown, Trigger};
use crate::http::{Backups, Bounds, Context, KeyPolicy};
use crate::limits::{
    HOOK_SECRET_MADE_BYTES, IDEMPOTENCY_RETENTION_MS_DEFAULT, LEASE_MS_DEFAULT, SEGMENT_BYTES_MIN,
};
use crate::log::{Options, Preparer, SimDisk, StoreId};
use crate::metrics::Metrics;
use crate::outbound::client::Client;
use crate::outbound::target::Target;
use crate::outbound::tls::Tls;
use crate::outbound::vet::Vet;
use crate::time::ManualClock;
use crate::workers::courier::{NodeSettings, Releasing};
use crate::workers::releaser::Releaser;

pub(super) use nodes::{Mood, Nodes};

/// Bytes that fit between client and server: few, so that streams push back early.
const PIPE_BYTES: usize = 16 << 10;
/// What a call to a node may take.
const NODE_DEADLINE_MS: u64 = 5000;
/// How often failed transactions are healed.
const HEAL_EVERY_MS: u64 = 30_000;
/// The id of every request.
pub(super) const REQUEST_ID: &str = "test-1";

/// The seq of the first formula: record 1 opens the reign.
pub(super) const FIRST_SEQ: u64 = 2;

/// What may differ from server to server.
#[derive(Clone)]
pub(super) struct Setup {
    /// Whether keys are wanted.
    pub(super) key_policy: KeyPolicy,
    /// How much it bears.
    pub(super) bounds: Bounds,
    /// What follows when a formula is accepted.
    pub(super) flow: &'static [FlowStep],
    /// The partner nodes as operators write them, and who plays them; `None`: there are none.
    pub(super) nodes: Option<(&'static [&'static str], Arc<Nodes>)>,
    /// Whether it plays a partner node itself.
    pub(super) role: NodeRole,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            key_policy: KeyPolicy::Optional,
            bounds: Bounds::default(),
            flow: &[],
            nodes: None,
            role: NodeRole::Off,
        }
    }
}

/// A context with an engine that holds nothing.
pub(super) fn context(key_policy: KeyPolicy) -> (Context, Trigger) {
    let setup = Setup { key_policy, ..Setup::default() };
    let (context, trigger, _) = context_on(SimDisk::new(1), setup);
    (context, trigger)
}

/// A context with an engine on this disk, and the engine's clock.
fn context_on(disk: SimDisk, setup: Setup) -> (Context, Trigger, Arc<ManualClock>) {
    let Setup { key_policy, bounds, flow, nodes, role } = setup;
    let (trigger, shutdown) = Shutdown::new();
    let metrics = Arc::new(Metrics::new());
    let clock = Arc::new(ManualClock::at(1_795_000_000_000));
    let engine = engine(disk, &clock, Arc::clone(&metrics), flow);
    let (urls, courier) = nodes.unzip();
    let targets = urls.unwrap_or_default().iter().map(|url| Target::parse(url).expect("a URL"));
    let settings = NodeSettings {
        nodes: targets.collect(),
        deadline_ms: NODE_DEADLINE_MS,
        heal_every_ms: HEAL_EVERY_MS,
    };
    let (mut releasing, node_health) = Releasing::over_http(&settings, &engine, &metrics);
    if let Some(courier) = courier {
        releasing.courier = courier;
    }
    let context = Context {
        engine,
        releasing,
        node_health,
        served: Served::new(role),
        rules: Rules { concentration_max: 100 },
        key_policy,
        tokens: None,
        metrics,
        shutdown,
        sealing: None,
        hook_attempts_max: 20,
        strangers: Client::new(Vet::none(), &Tls::public()),
        secrets: SecretSource::new(|| Some([7; HOOK_SECRET_MADE_BYTES]), None),
        bounds,
        backups: Backups::default(),
        id_seed: 0,
    };
    (context, trigger, clock)
}

fn engine(
    disk: SimDisk,
    clock: &Arc<ManualClock>,
    metrics: Arc<Metrics>,
    flow: &'static [FlowStep],
) -> Engine {
    let options = Options {
        segment_bytes: SEGMENT_BYTES_MIN,
        preparer: Preparer::Inline,
        ..Options::new(StoreId([1; 16]))
    };
    let policy = Policy { attempts_max: 5, retention_ms: IDEMPOTENCY_RETENTION_MS_DEFAULT, flow };
    let compaction = CompactionPolicy::default();
    let setting = Setting { clock: clock.clone(), policy, compaction, seed: 1 };
    let (core, _) = open(Arc::new(disk), options, setting).expect("a new store opens");
    Engine::start(core, clock.clone(), metrics).expect("threads can be had").0
}

/// A server and one connection to it.
pub(super) struct Server {
    service: Arc<Service>,
    /// Stops it.
    pub(super) trigger: Trigger,
    /// Its engine's clock, which stands still unless it is moved.
    pub(super) clock: Arc<ManualClock>,
    disk: SimDisk,
    sender: SendRequest<TestBody>,
}

type TestBody = UnsyncBoxBody<Bytes, Infallible>;

/// What came back, whole.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    /// The body as JSON.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// The body as JSON lines.
    pub(super) fn lines(&self) -> Vec<Value> {
        let lines = self.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }

    /// A header as text; empty when it is not there.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Server {
    /// A server whose store is empty.
    pub(super) async fn start() -> Server {
        Server::start_as(Setup::default()).await
    }

    /// A server that plays a partner node and wants keys where it may.
    pub(super) async fn start_node() -> Server {
        let (key_policy, role) = (KeyPolicy::Required, NodeRole::Played);
        Server::start_as(Setup { key_policy, role, ..Setup::default() }).await
    }

    /// A server that bears only so much.
    pub(super) async fn start_bounded(bounds: Bounds) -> Server {
        Server::start_as(Setup { bounds, ..Setup::default() }).await
    }

    /// A server with this policy.
    pub(super) async fn start_with(key_policy: KeyPolicy) -> Server {
        Server::start_as(Setup { key_policy, ..Setup::default() }).await
    }

    /// A server that is set up like this.
    pub(super) async fn start_as(setup: Setup) -> Server {
        let disk = SimDisk::new(1);
        let (context, trigger, clock) = context_on(disk.handle(), setup);
        let service = Arc::new(Service::new(context));
        let sender = connect(&service).await;
        Server { service, trigger, clock, disk, sender }
    }

    /// The same server by another connection.
    pub(super) async fn connected_anew(&self) -> Server {
        Server {
            service: Arc::clone(&self.service),
            trigger: self.trigger.clone(),
            clock: Arc::clone(&self.clock),
            disk: self.disk.handle(),
            sender: connect(&self.service).await,
        }
    }

    /// Starts the worker that carries out transactions.
    pub(super) fn start_releaser(&self) {
        let Context { engine, releasing, metrics, shutdown, .. } = self.context();
        let releaser = Releaser::new(engine.clone(), releasing.clone(), Arc::clone(metrics));
        let shutdown = shutdown.clone();
        tokio::spawn(async move { releaser.run(shutdown.draining()).await });
    }

    /// What its handlers use.
    pub(super) fn context(&self) -> &Context {
        &self.service.context
    }

    /// The same, for a task of its own.
    pub(super) fn service(&self) -> Arc<Service> {
        Arc::clone(&self.service)
    }

    /// Returns when the engine has decided everything that it was asked before.
    ///
    /// It decides in the order in which it is asked, so that a lease of nothing does it.
    pub(super) async fn catch_up(&self) {
        let queue = "seals".parse().expect("a queue name");
        let wish = LeaseRequest { queue, messages_max: 1, lease_ms: LEASE_MS_DEFAULT };
        assert_eq!(self.context().engine.lease(wish).await, Ok(Vec::new()));
    }

    /// Damages the stored formula of this name, which no other record may hold.
    pub(super) fn damage_formula(&self, name: &str) {
        let holds = |bytes: &[u8]| memchr::memmem::find(bytes, name.as_bytes());
        for path in self.disk.paths() {
            let bytes = self.disk.bytes(&path).expect("the path was listed");
            if let Some(at) = holds(&bytes) {
                return self.disk.flip(&path, 8 * at as u64);
            }
        }
        panic!("no file holds {name}");
    }

    /// Sends a request with a whole body.
    pub(super) async fn call(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let body = Full::new(Bytes::copy_from_slice(body.as_bytes())).boxed_unsync();
        whole(self.send(method, target, headers, body).await).await
    }

    /// Posts JSON without further headers.
    pub(super) async fn post(&mut self, target: &str, body: &str) -> Answer {
        self.call("POST", target, &[("content-type", "application/json")], body).await
    }

    /// Gets.
    pub(super) async fn get(&mut self, target: &str) -> Answer {
        self.call("GET", target, &[], "").await
    }

    /// Begins a stream of lines whose further pieces go into the sender.
    pub(super) async fn stream(
        &mut self,
        headers: &[(&str, &str)],
        first: &str,
    ) -> (mpsc::UnboundedSender<Bytes>, hyper::Response<Incoming>) {
        let (pieces, received) = mpsc::unbounded_channel();
        pieces.send(Bytes::copy_from_slice(first.as_bytes())).unwrap();
        let mut all = vec![("content-type", "application/x-ndjson")];
        all.extend_from_slice(headers);
        let body = Pieces(received).boxed_unsync();
        (pieces, self.send("POST", "/formulas", &all, body).await)
    }

    async fn send(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: TestBody,
    ) -> hyper::Response<Incoming> {
        let mut request = hyper::Request::builder().method(method).uri(target);
        request = request.header("host", "test").header("x-request-id", REQUEST_ID);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.sender.ready().await.unwrap();
        self.sender.send_request(request.body(body).unwrap()).await.unwrap()
    }
}

/// Connects to a service.
async fn connect(service: &Arc<Service>) -> SendRequest<TestBody> {
    let (client, server) = tokio::io::duplex(PIPE_BYTES);
    let (shared, link) = (Arc::clone(service), Arc::new(Link::default()));
    let answer = service_fn(move |request| {
        let (service, exchange) = (Arc::clone(&shared), Exchange::begin(&link));
        async move { Ok::<_, Infallible>(service.answer(exchange, request).await) }
    });
    let http = hyper::server::conn::http1::Builder::new();
    tokio::spawn(http.serve_connection(TokioIo::new(server), answer));
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(client));
    let (sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    sender
}

/// Gathers a response.
pub(super) async fn whole(response: hyper::Response<Incoming>) -> Answer {
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer { status: head.status.as_u16(), headers: head.headers, body }
}

/// A request body that is sent as it comes.
struct Pieces(mpsc::UnboundedReceiver<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }
}
