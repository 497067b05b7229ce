//! One call to a partner's node, and what its answer means.
//!
//! ```text
//! GET    {url}/v1/group/{id}/                      200 it is there, 404 it is not
//! POST   {url}/v1/group/   {"groupId": "…"}        201 created, 400 or 409 was there already
//! DELETE {url}/v1/group/   {"groupId": "…"}        200 deleted, 404 was not there
//! Idempotency-Key: "…"                             with the last two
//! ```
//!
//! Answers are sorted by what they say of the node's state. *Definite* is only what the contract
//! names, and a refusal: the node has read the call and will not do it. All else is *unknown*: a
//! deadline, a lost connection, 5xx, a success of another kind, and what asks to come back later
//! (408, 425, 429), since something in between may say that about a call that it let through.
//! What is unknown may take effect yet; who judges it waits, and looks.
//!
//! What a node tells of a group with a success is its own affair, with one exception: a page
//! (markup, from its first sign on) comes from something that stands in between, such as a gateway
//! that wants a login, and says nothing of the node. Other bodies are read to a bound and ignored,
//! but the beginning of one that explains why something was not done is kept for whoever asks.
//!
//! A call that changes something has a connection of its own. So it is sent soon or never, and who
//! judges knows from when on its deadline counts; a look may come late, and shares connections.
//!
//! Every call is noted in [`Health`], here, so that nobody forgets. What this does not do: ask
//! the breaker before a call. When a node is left alone is decided by who makes the calls: an undo
//! that has begun goes on.

pub mod health;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode, Uri};
use serde::Serialize;

use crate::ids::GroupId;
use crate::limits::{NODE_ANSWER_BYTES_MAX, NODE_CONNECT_SHARE, NODE_SAID_BYTES_MAX};
use crate::outbound::breaker::{Admission, BreakerState};
use crate::outbound::client::{Answer, Call, CallLimits, Client};
use crate::outbound::fault::CallFault;
use crate::outbound::lookup::{Lookup, SystemLookup};
use crate::outbound::nodes::health::{CallKind, Health, Noted};
use crate::outbound::target::{Target, segment};
use crate::outbound::tls::Tls;
use crate::outbound::vet::Vet;
use crate::record::releases::{Action, Presence};
use crate::time::Moment;

const KEY_HEADER: HeaderName = HeaderName::from_static("idempotency-key");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Where the client takes the present from. The same that the records have, so that what the
/// breaker says until when can be recorded.
pub type Now = Arc<dyn Fn() -> Moment + Send + Sync>;

/// Calls nodes, which the operator has named and which therefore may be anywhere. Cheap to clone;
/// clones share connections and health.
#[derive(Clone)]
pub struct NodeClient {
    looks: Client,
    calls: Client,
    health: Health,
    now: Now,
}

/// What came of a call that asks for something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeAnswer {
    /// The node did it (201 to create, 200 to delete).
    Done,
    /// It says that there was nothing to do: the group was there (400 or 409 to create), or was
    /// not (404 to delete). A node may answer 400 for other reasons; a look tells.
    Already(Reply),
    /// It will not do it (3xx, any other 4xx). Asking again is of no use.
    Refused(Reply),
    /// Nobody can tell. It may have been done, or may be done yet.
    Unknown(NodeFault),
}

/// Why a call has no answer that says something definite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeFault {
    /// No answer, or no whole one.
    Call(CallFault),
    /// An answer of which the contract does not say what it means.
    Answered(Reply),
    /// The key or the address is not one that can be sent. Nothing was.
    Unsendable,
}

/// A status, and what was said with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The beginning of the body.
    pub said: Said,
}

/// The beginning of a body, at most `NODE_SAID_BYTES_MAX` bytes, as one line that can be shown
/// anywhere: letters, digits, visible ASCII, and single blanks for all else. May be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said(String);

impl NodeClient {
    /// A client that notes its calls in `health`.
    #[must_use]
    pub fn new(tls: &Tls, health: Health, now: Now) -> NodeClient {
        NodeClient::with_lookup(tls, Arc::new(SystemLookup::new()), health, now)
    }

    /// A client that asks somebody else what names stand for.
    #[must_use]
    pub fn with_lookup(tls: &Tls, lookup: Arc<dyn Lookup>, health: Health, now: Now) -> NodeClient {
        let looks = Client::with_lookup(Vet::none(), tls, Arc::clone(&lookup));
        let calls = Client::without_reuse(Vet::none(), tls, lookup);
        NodeClient { looks, calls, health, now }
    }

    /// How the nodes are doing.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Whether the breaker of this node lets a call through now. Who is let through as a probe
    /// makes a call.
    #[must_use]
    pub fn admit(&self, node: &Target) -> Admission {
        self.health.admit(node, (self.now)().uptime)
    }

    /// How the breaker of this node stands now. Asking changes nothing.
    #[must_use]
    pub fn breaker(&self, node: &Target) -> BreakerState {
        self.health.breaker(node, (self.now)().uptime)
    }

    /// Whether the group is there. Takes `deadline_ms` at most.
    ///
    /// # Errors
    /// The node did not say.
    pub async fn look(
        &self,
        node: &Target,
        group: &GroupId,
        deadline_ms: u64,
    ) -> Result<Presence, NodeFault> {
        let asking = async {
            let uri = look_uri(node, group)?;
            let call = Call {
                method: Method::GET,
                url: node,
                headers: HeaderMap::new(),
                body: Bytes::new(),
                limits: limits(deadline_ms),
            };
            let answer = self.looks.call_uri(uri, call).await.map_err(NodeFault::Call)?;
            presence(&answer)
        };
        let began = (self.now)();
        let seen = asking.await;
        self.note(node, CallKind::Look, began, seen.as_ref().err().map_or(Noted::Well, of_fault));
        seen
    }

    /// Has the node do something to the group. Takes `deadline_ms` at most. `key` names this call
    /// among all that are ever made: visible ASCII and blanks.
    pub async fn call(
        &self,
        node: &Target,
        action: Action,
        group: &GroupId,
        key: &str,
        deadline_ms: u64,
    ) -> NodeAnswer {
        let began = (self.now)();
        let answer = match self.send(node, action, group, key, deadline_ms).await {
            Ok(answer) => NodeAnswer::of(action, &answer),
            Err(fault) => NodeAnswer::Unknown(fault),
        };
        let kind = match action {
            Action::Create => CallKind::Create,
            Action::Delete => CallKind::Delete,
        };
        self.note(node, kind, began, answer.noted());
        answer
    }

    async fn send(
        &self,
        node: &Target,
        action: Action,
        group: &GroupId,
        key: &str,
        deadline_ms: u64,
    ) -> Result<Answer, NodeFault> {
        let uri = node.below("/v1/group/", &[]).map_err(|_| NodeFault::Unsendable)?;
        let headers = [(CONTENT_TYPE, JSON), (KEY_HEADER, quoted(key)?)];
        let call = Call {
            method: match action {
                Action::Create => Method::POST,
                Action::Delete => Method::DELETE,
            },
            url: node,
            headers: HeaderMap::from_iter(headers),
            body: body(group),
            limits: limits(deadline_ms),
        };
        self.calls.call_uri(uri, call).await.map_err(NodeFault::Call)
    }

    fn note(&self, node: &Target, kind: CallKind, began: Moment, noted: Noted<'_>) {
        let now = (self.now)();
        let took_ms = now.uptime.since_ms(began.uptime);
        self.health.note(node, kind, noted, took_ms, now);
    }
}

impl fmt::Debug for NodeClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeClient").field("health", &self.health).finish_non_exhaustive()
    }
}

impl NodeAnswer {
    /// What an answer to this means.
    fn of(action: Action, answer: &Answer) -> NodeAnswer {
        let reply = || Reply::of(answer);
        match (action, answer.status.as_u16()) {
            (_, 200..=299) if is_page(answer) => NodeAnswer::Unknown(NodeFault::Answered(reply())),
            (Action::Create, 201) | (Action::Delete, 200) => NodeAnswer::Done,
            (Action::Create, 400 | 409) | (Action::Delete, 404) => NodeAnswer::Already(reply()),
            (_, 408 | 425 | 429) => NodeAnswer::Unknown(NodeFault::Answered(reply())),
            (_, 300..=499) => NodeAnswer::Refused(reply()),
            _ => NodeAnswer::Unknown(NodeFault::Answered(reply())),
        }
    }

    fn noted(&self) -> Noted<'_> {
        match self {
            NodeAnswer::Done | NodeAnswer::Already(_) => Noted::Well,
            NodeAnswer::Refused(reply) => Noted::Refused(reply),
            NodeAnswer::Unknown(fault) => of_fault(fault),
        }
    }
}

impl fmt::Display for NodeAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NodeAnswer::Done => f.write_str("done"),
            NodeAnswer::Already(reply) | NodeAnswer::Refused(reply) => reply.fmt(f),
            NodeAnswer::Unknown(fault) => fault.fmt(f),
        }
    }
}

impl NodeFault {
    /// Whether the node cannot have seen any of the call.
    #[must_use]
    pub fn is_before_sending(&self) -> bool {
        match self {
            NodeFault::Call(fault) => fault.is_before_sending(),
            NodeFault::Answered(_) => false,
            NodeFault::Unsendable => true,
        }
    }
}

impl fmt::Display for NodeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NodeFault::Call(fault) => fault.fmt(f),
            NodeFault::Answered(reply) => reply.fmt(f),
            NodeFault::Unsendable => f.write_str("the call cannot be sent"),
        }
    }
}

impl std::error::Error for NodeFault {}

impl Reply {
    fn of(answer: &Answer) -> Reply {
        Reply { status: answer.status, said: Said::of(&answer.body) }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "answered {}", self.status.as_u16())?;
        if self.said.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.said.0) }
    }
}

impl Said {
    /// What the beginning of this body says.
    #[must_use]
    pub fn of(body: &[u8]) -> Said {
        let body = &body[..body.len().min(NODE_SAID_BYTES_MAX)];
        let mut line = String::new();
        // What is no UTF-8 becomes a sign that is no letter either. No letter in it takes more
        // bytes than it took in the body.
        for c in String::from_utf8_lossy(body).chars() {
            if c.is_ascii_graphic() || c.is_alphanumeric() {
                line.push(c);
            } else if !line.is_empty() && !line.ends_with(' ') {
                line.push(' ');
            }
        }
        line.truncate(line.trim_end().len());
        Said(line)
    }

    /// The line.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a fault says of how the node is doing.
fn of_fault(fault: &NodeFault) -> Noted<'_> {
    match fault {
        NodeFault::Call(_) => Noted::Failed(fault),
        NodeFault::Answered(reply) if reply.status.is_server_error() => Noted::Failed(fault),
        NodeFault::Answered(reply) => Noted::Refused(reply),
        NodeFault::Unsendable => Noted::Nothing,
    }
}

/// What an answer to a look tells.
fn presence(answer: &Answer) -> Result<Presence, NodeFault> {
    match answer.status {
        StatusCode::OK if !is_page(answer) => Ok(Presence::Present),
        StatusCode::NOT_FOUND => Ok(Presence::Absent),
        _ => Err(NodeFault::Answered(Reply::of(answer))),
    }
}

/// Whether this is meant to be looked at, not read by a program.
fn is_page(answer: &Answer) -> bool {
    answer.body.trim_ascii_start().first() == Some(&b'<')
}

fn look_uri(node: &Target, group: &GroupId) -> Result<Uri, NodeFault> {
    let path = format!("/v1/group/{}/", segment(group.as_str()));
    node.below(&path, &[]).map_err(|_| NodeFault::Unsendable)
}

/// A string as RFC 9651 writes it in a header.
fn quoted(key: &str) -> Result<HeaderValue, NodeFault> {
    let is_plain = key.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    let escaped = key.replace('\\', "\\\\").replace('"', "\\\"");
    let value = HeaderValue::try_from(format!("\"{escaped}\"")).ok();
    value.filter(|_| is_plain && !key.is_empty()).ok_or(NodeFault::Unsendable)
}

fn body(group: &GroupId) -> Bytes {
    #[derive(Serialize)]
    struct Body<'a> {
        #[serde(rename = "groupId")]
        group: &'a str,
    }
    serde_json::to_vec(&Body { group: group.as_str() }).expect("a string is JSON").into()
}

fn limits(deadline_ms: u64) -> CallLimits {
    CallLimits {
        connect_ms: deadline_ms / NODE_CONNECT_SHARE,
        head_ms: deadline_ms,
        body_ms: deadline_ms,
        deadline_ms,
        answer_bytes_max: NODE_ANSWER_BYTES_MAX,
    }
}

#[cfg(test)]
mod tests;
