//! Serves the API over HTTP/1.1.
//!
//! ```text
//! listener ─ admits a connection ─► connection ─► wire ──────► hyper ──► service ──► endpoint
//!            (caps, back-off)       (one task,    (vets every  (frames)  (route,      (formulas,
//!                                    drain)        head,                  scope,       queues,
//!                                                  deadlines)             limits)      operating)
//! ```
//!
//! Everything but the parsing of large bodies (`offload`) runs on one thread. A request spawns
//! no task: its handler is polled by its connection, so a client that leaves takes its work with
//! it, and one that does not read its answer gets no further one.
//!
//! Whatever is wrong with a request, and whatever layer finds it, the answer is a
//! [`problem::Problem`] from one table, with the request's id.

mod admin;
mod admission;
pub(crate) mod archive;
pub mod auth;
mod batches;
mod budget;
mod chunks;
pub mod connection;
mod etag;
mod formulas;
mod groups;
#[cfg(test)]
mod harness;
mod head;
pub mod hooks;
mod keys;
mod lines;
mod listener;
mod members;
mod ndjson;
mod nodes;
mod offload;
mod operating;
mod paging;
mod prefer;
pub mod problem;
mod queues;
mod releases;
mod render;
pub mod request;
pub mod response;
pub mod routes;
mod seals;
mod service;
pub mod shutdown;
mod wire;

pub use admin::Backups;
pub use listener::{Listener, bind, serve};
pub(crate) use render::formula_json;

use std::sync::Arc;

use crate::engine::Engine;
use crate::formula::Rules;
use crate::http::auth::Tokens;
use crate::http::hooks::SecretSource;
use crate::http::routes::Served;
use crate::http::shutdown::Shutdown;
use crate::limits;
use crate::metrics::Metrics;
use crate::outbound::client::Client;
use crate::outbound::nodes::health::Health;
use crate::workers::courier::Releasing;
use crate::workers::signatory::Sealing;

/// What every handler may use.
pub struct Context {
    /// The engine.
    pub engine: Engine,
    /// The calls that are served.
    pub served: Served,
    /// What configuration may change about the checks of a formula.
    pub rules: Rules,
    /// Whether requests that create something need an idempotency key.
    pub key_policy: KeyPolicy,
    /// Who may do what; `None`: everybody may do everything.
    pub tokens: Option<Tokens>,
    /// Counts everything.
    pub metrics: Arc<Metrics>,
    /// Stops the server; long polls end with it.
    pub shutdown: Shutdown,
    /// How much the server bears.
    pub bounds: Bounds,
    /// Who seals; `None`: nobody.
    pub sealing: Option<Sealing>,
    /// Who calls the partner nodes.
    pub releasing: Releasing,
    /// How they are doing.
    pub node_health: Health,
    /// Calls what strangers name.
    pub strangers: Client,
    /// The attempt of a delivery to a hook after which it is a dead letter.
    pub hook_attempts_max: u32,
    /// Makes secrets of hooks.
    pub secrets: SecretSource,
    /// The backups that are being sent.
    pub backups: Backups,
    /// Random; makes the request ids of this process its own.
    pub id_seed: u64,
}

/// How much the server bears. The default is that of [`limits`]; tests are less patient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Open connections.
    pub connections_max: usize,
    /// Open connections of one address.
    pub connections_per_address_max: usize,
    /// Requests on one connection before it is closed.
    pub requests_per_connection_max: u64,
    /// Bytes of all bodies that are being gathered.
    pub bodies_bytes_max: usize,
    /// Bytes of all pages and other large responses that clients have not read yet.
    pub pages_bytes_max: usize,
    /// Milliseconds for a request's head to arrive.
    pub head_deadline_ms: u64,
    /// Milliseconds for a body to begin and, at the minimum rate, to go on.
    pub body_deadline_ms: u64,
    /// Milliseconds without progress, or of waiting beyond the minimum rate, after which a
    /// response is given up.
    pub write_deadline_ms: u64,
    /// Milliseconds after which an idle connection is closed.
    pub keep_alive_ms: u64,
    /// Milliseconds for which a refused client is listened to.
    pub linger_ms: u64,
    /// Milliseconds for requests under way when the server is told to stop.
    pub drain_ms: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            connections_max: limits::CONNECTIONS_MAX,
            connections_per_address_max: limits::CONNECTIONS_PER_ADDRESS_MAX,
            requests_per_connection_max: limits::REQUESTS_PER_CONNECTION_MAX,
            bodies_bytes_max: limits::BODIES_BYTES_MAX,
            pages_bytes_max: limits::PAGES_BYTES_MAX,
            head_deadline_ms: limits::HEAD_DEADLINE_MS,
            body_deadline_ms: limits::BODY_DEADLINE_MS,
            write_deadline_ms: limits::WRITE_DEADLINE_MS,
            keep_alive_ms: limits::KEEP_ALIVE_MS,
            linger_ms: limits::LINGER_MS,
            drain_ms: limits::DRAIN_MS,
        }
    }
}

/// Whether requests that create something need an idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPolicy {
    /// They may carry one.
    Optional,
    /// They are refused without one.
    Required,
}
