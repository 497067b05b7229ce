//! A server in this process and a client that knows nothing of HTTP but bytes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown as Half, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use sillage::engine::command::LeaseRequest;
use sillage::engine::core::{CompactionPolicy, Setting};
use sillage::engine::decide::Policy;
use sillage::engine::open::open;
use sillage::engine::{Engine, Work};
use sillage::formula::Rules;
use sillage::http::auth::Tokens;
use sillage::http::routes::{NodeRole, Served};
use sillage::http::shutdown::{Shutdown, Trigger};
use sillage::http::{Backups, Bounds, Context, KeyPolicy, bind, hooks::SecretSource, serve};
use sillage::limits::SEGMENT_BYTES_MIN;
use sillage::log::{Options, Preparer, SimDisk, StoreId};
use sillage::metrics::Metrics;
use sillage::outbound::client;
use sillage::outbound::tls::Tls;
use sillage::outbound::vet::Vet;
use sillage::time::{Clock, ManualClock};
use sillage::workers::courier::{NodeSettings, Releasing};

/// No server takes longer than this to react; a test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// The writer's clock: it stands still while somebody holds the gate, and the writer with it.
#[derive(Default)]
struct GatedClock {
    gate: Mutex<()>,
    inner: ManualClock,
}

impl Clock for GatedClock {
    fn wall_ms(&self) -> u64 {
        drop(self.gate.lock());
        self.inner.wall_ms()
    }

    fn monotonic_ms(&self) -> u64 {
        self.inner.monotonic_ms()
    }
}

fn engine(disk: SimDisk, clock: Arc<GatedClock>, metrics: Arc<Metrics>) -> Engine {
    let options = Options {
        segment_bytes: SEGMENT_BYTES_MIN,
        preparer: Preparer::Inline,
        ..Options::new(StoreId([1; 16]))
    };
    let policy = Policy { attempts_max: 5, retention_ms: 60_000, flow: &[] };
    let (core, _) = open(
        Arc::new(disk),
        options,
        Setting { clock, policy, compaction: CompactionPolicy::default(), seed: 1 },
    )
    .unwrap();
    Engine::start(core, Arc::new(ManualClock::default()), metrics).unwrap().0
}

/// A running server, stopped when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) trigger: Trigger,
    engine: Engine,
    clock: Arc<GatedClock>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// A server with the default bounds.
    pub(crate) fn start() -> Server {
        Server::start_with(Bounds::default(), None)
    }

    pub(crate) fn start_with(bounds: Bounds, tokens: Option<Tokens>) -> Server {
        Server::start_on(SimDisk::new(7), bounds, tokens)
    }

    /// A server whose disk has no room for another segment.
    pub(crate) fn start_full() -> Server {
        let disk = SimDisk::new(7);
        disk.set_capacity(3 * SEGMENT_BYTES_MIN / 2);
        Server::start_on(disk, Bounds::default(), None)
    }

    fn start_on(disk: SimDisk, bounds: Bounds, tokens: Option<Tokens>) -> Server {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.address();
        let (trigger, shutdown) = Shutdown::new();
        let metrics = Arc::new(Metrics::new());
        let clock = Arc::new(GatedClock::default());
        let engine = engine(disk, Arc::clone(&clock), Arc::clone(&metrics));
        let nodes = NodeSettings { nodes: Vec::new(), deadline_ms: 1000, heal_every_ms: 1000 };
        let (releasing, node_health) = Releasing::over_http(&nodes, &engine, &metrics);
        let context = Context {
            releasing,
            node_health,
            engine: engine.clone(),
            served: Served::new(NodeRole::Off),
            rules: Rules { concentration_max: 100 },
            key_policy: KeyPolicy::Optional,
            tokens,
            metrics: Arc::clone(&metrics),
            shutdown,
            bounds,
            sealing: None,
            hook_attempts_max: 20,
            strangers: client::Client::new(Vet::none(), &Tls::public()),
            secrets: SecretSource::new(|| None, None),
            backups: Backups::default(),
            id_seed: 7,
        };
        let thread = std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build().unwrap().block_on(serve(listener, context)).unwrap();
        });
        Server { address, metrics, trigger, engine, clock, thread: Some(thread) }
    }

    /// Runs `test` while the writer stands still and as many commands wait for it as may.
    pub(crate) fn while_overloaded(&self, test: impl FnOnce()) {
        let _closed = self.clock.gate.lock().unwrap();
        let mut waiting = Vec::new();
        while self.engine.refuses(Work::Settle).is_none() {
            let queue = "formulas".parse().unwrap();
            let request = LeaseRequest { queue, messages_max: 1, lease_ms: 1000 };
            let mut lease = Box::pin(self.engine.lease(request));
            let mut context = std::task::Context::from_waker(Waker::noop());
            assert!(lease.as_mut().poll(&mut context).is_pending(), "the writer stands still");
            waiting.push(lease);
        }
        test();
    }

    pub(crate) fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.address).unwrap())
    }

    /// One request on a connection of its own.
    pub(crate) fn ask(&self, request: &str) -> Reply {
        let mut client = self.connect();
        client.send(request);
        client.reply()
    }

    /// Waits until the server has stopped by itself.
    pub(crate) fn join(mut self) {
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.trigger.advance();
        self.trigger.advance();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// One connection.
pub(crate) struct Client(BufReader<TcpStream>);

impl Client {
    pub(crate) fn new(socket: TcpStream) -> Client {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        Client(BufReader::new(socket))
    }

    /// Sends text with each `\n` as CR LF.
    pub(crate) fn send(&mut self, text: &str) {
        self.send_bytes(text.replace('\n', "\r\n").as_bytes());
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    /// Sends as far as the server takes it.
    pub(crate) fn try_send_bytes(&mut self, bytes: &[u8]) {
        drop(self.0.get_mut().write_all(bytes));
    }

    /// Closes this side; the other stays open.
    pub(crate) fn end(&mut self) {
        self.0.get_mut().shutdown(Half::Write).unwrap();
    }

    /// The next response to a request that was not `HEAD`.
    pub(crate) fn reply(&mut self) -> Reply {
        let mut reply = self.head();
        if let Some(len) = reply.header("content-length") {
            reply.body = vec![0; len.parse().unwrap()];
            self.0.read_exact(&mut reply.body).unwrap();
        } else if reply.header("transfer-encoding") == Some("chunked") {
            reply.body = self.chunks();
        }
        reply
    }

    /// The next response without its body.
    pub(crate) fn head(&mut self) -> Reply {
        let line = self.line();
        let status = line.split(' ').nth(1).unwrap_or_default().parse();
        let status = status.unwrap_or_else(|_| panic!("no status in {line:?}"));
        let mut headers = Vec::new();
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        Reply { line, status, headers, body: Vec::new() }
    }

    /// Whether the server has closed without another byte. A reset counts: it is how a close
    /// looks when the server has not read everything.
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.0.read(&mut [0]) {
            Ok(read) => read == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }

    /// Everything until the server closes or resets.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        drop(self.0.read_to_end(&mut rest));
        rest
    }

    fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let len = usize::from_str_radix(&self.line(), 16).unwrap();
            let mut chunk = vec![0; len];
            self.0.read_exact(&mut chunk).unwrap();
            body.extend_from_slice(&chunk);
            assert_eq!(self.line(), "");
            if len == 0 {
                return body;
            }
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        assert!(line.ends_with("\r\n"), "the response breaks off: {line:?}");
        line.trim_end().to_owned()
    }
}

/// A response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) line: String,
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(n, _)| n == name);
        let (first, second) = (values.next(), values.next());
        assert!(second.is_none(), "{name} is given twice");
        first.map(|(_, value)| &**value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Asserts that this is the problem `slug` with all its members.
    #[track_caller]
    pub(crate) fn assert_problem(&self, status: u16, slug: &str) {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{text}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let json = self.json();
        assert_eq!(json["type"], format!("/problems/{slug}"), "{text}");
        assert_eq!(json["status"], status);
        assert!(json["title"].is_string() && json["detail"].is_string(), "{text}");
        assert_eq!(json["request_id"].as_str(), self.header("x-request-id"), "{text}");
    }
}

/// A `POST /formulas` with this body and more header lines, each with its `\n`.
pub(crate) fn post(headers: &str, body: &str) -> String {
    format!(
        "POST /formulas HTTP/1.1\nHost: x\nContent-Type: application/json\n\
         Content-Length: {}\n{headers}\n{body}",
        body.len()
    )
}

/// A formula whose make-up is told apart by a number.
pub(crate) fn formula(number: u32) -> String {
    format!(r#"{{"name":"F","materials":[{{"name":"m{number}","concentration":1}}]}}"#)
}
