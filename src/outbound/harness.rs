//! The other side for tests: servers on this machine that do as they are told, and a resolver
//! that says what it is told.

use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hyper::{HeaderMap, Method};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::client::{Call, CallLimits};
use super::lookup::{LookedUp, Lookup};
use super::target::Target;

/// What a server does with one request.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    /// Answers, and reads on.
    Send(Vec<u8>),
    /// Answers, and closes.
    Close(Vec<u8>),
    /// Answers, and waits until the client closes.
    Hang(Vec<u8>),
    /// Answers, and then sends this again and again as fast as it is read.
    Flood(Vec<u8>, Vec<u8>),
    /// Answers, and then sends this again and again, once in a second.
    Trickle(Vec<u8>, Vec<u8>),
}

/// What a server has seen so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Heads and bodies, in the order in which they came.
    pub(super) requests: Vec<String>,
    /// Connections accepted.
    pub(super) connections: usize,
    /// Of those, how many the client has closed.
    pub(super) closed: usize,
}

/// A server that does with the n-th request what the n-th reply says, and with all later ones
/// what the last one says.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    seen: watch::Sender<Seen>,
}

impl Server {
    pub(super) async fn start(replies: Vec<Reply>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Server::on(listener, replies)
    }

    pub(super) fn on(listener: TcpListener, replies: Vec<Reply>) -> Server {
        let address = listener.local_addr().expect("bound");
        let seen = watch::Sender::default();
        let (replies, noted) = (Arc::new(replies), seen.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                noted.send_modify(|seen: &mut Seen| seen.connections += 1);
                tokio::spawn(converse(stream, Arc::clone(&replies), noted.clone()));
            }
        });
        Server { address, seen }
    }

    pub(super) fn url(&self, rest: &str) -> Target {
        target(&format!("http://{}{rest}", self.address))
    }

    pub(super) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Waits until what was seen is so.
    pub(super) async fn until(&self, is_so: impl FnMut(&Seen) -> bool) {
        self.seen.subscribe().wait_for(is_so).await.expect("the sender is here");
    }
}

/// Serves one connection.
pub(super) async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    replies: Arc<Vec<Reply>>,
    seen: watch::Sender<Seen>,
) {
    while let Some(request) = read_request(&mut stream).await {
        let number = seen.borrow().requests.len().min(replies.len() - 1);
        seen.send_modify(|seen| seen.requests.push(request));
        if !carry_out(&mut stream, &replies[number]).await {
            return;
        }
    }
    seen.send_modify(|seen| seen.closed += 1);
}

/// Whether the connection is to be read on: for another request, or for its end.
async fn carry_out<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, reply: &Reply) -> bool {
    let (Reply::Send(first)
    | Reply::Close(first)
    | Reply::Hang(first)
    | Reply::Flood(first, _)
    | Reply::Trickle(first, _)) = reply;
    if stream.write_all(first).await.is_err() {
        return true;
    }
    match reply {
        Reply::Send(_) | Reply::Hang(_) => return true,
        Reply::Close(_) => {}
        Reply::Flood(_, again) => while stream.write_all(again).await.is_ok() {},
        Reply::Trickle(_, again) => {
            let mut seconds = tokio::time::interval(std::time::Duration::from_secs(1));
            while stream.write_all(again).await.is_ok() {
                seconds.tick().await;
            }
        }
    }
    matches!(reply, Reply::Flood(..) | Reply::Trickle(..))
}

/// A request with its body; `None` when the client closes first.
async fn read_request<S: AsyncRead + Unpin>(stream: &mut S) -> Option<String> {
    let mut text = String::new();
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok()
            });
            if body.len() >= length.unwrap_or(0) {
                return Some(text);
            }
        }
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).await.ok().filter(|read| *read > 0)?;
        text.push_str(&String::from_utf8_lossy(&piece[..read]));
    }
}

/// An answer of this status line and body.
pub(super) fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n{body}").into_bytes()
}

pub(super) fn target(url: &str) -> Target {
    Target::parse(url).unwrap_or_else(|fault| panic!("{url}: {fault}"))
}

/// Limits that nothing on this machine comes near.
pub(super) const GENEROUS: CallLimits = CallLimits {
    connect_ms: 10_000,
    head_ms: 30_000,
    body_ms: 30_000,
    deadline_ms: 60_000,
    answer_bytes_max: 1 << 20,
};

pub(super) fn get(url: &Target) -> Call<'_> {
    Call {
        method: Method::GET,
        url,
        headers: HeaderMap::new(),
        body: Bytes::new(),
        limits: GENEROUS,
    }
}

/// A resolver that gives these answers one after the other, the last one for ever; `None` is
/// silence.
#[derive(Debug)]
pub(super) struct Told {
    answers: Mutex<VecDeque<Option<Vec<&'static str>>>>,
    asked: Mutex<Vec<String>>,
}

impl Told {
    pub(super) fn new(answers: impl IntoIterator<Item = Option<Vec<&'static str>>>) -> Arc<Told> {
        let answers = Mutex::new(answers.into_iter().collect());
        Arc::new(Told { answers, asked: Mutex::default() })
    }

    /// The names that were asked for.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").clone()
    }
}

impl Lookup for Told {
    fn lookup(&self, name: &str, port: u16) -> Pin<Box<dyn Future<Output = LookedUp> + Send>> {
        self.asked.lock().expect("no panic").push(name.to_owned());
        let mut answers = self.answers.lock().expect("no panic");
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        let Some(ips) = answer.expect("there is an answer") else {
            return Box::pin(std::future::pending());
        };
        let address = |ip: &str| SocketAddr::new(ip.parse().expect("an address"), port);
        let addresses = ips.into_iter().map(address).collect();
        Box::pin(std::future::ready(Ok(addresses)))
    }
}
