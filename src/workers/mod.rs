//! The built-in workers: tasks on the network thread, beside the HTTP server.
//!
//! ```text
//!   queue ── engine ──► worker ── outbound ──► somebody else's server
//!     ▲                   │
//!     └──── outcome ◄─────┘
//! ```
//!
//! A worker is a consumer like any other: it leases messages through the engine's handle and
//! settles them. It owns nothing that must last, so that it may be cut off at any moment; what it
//! had begun is found in the records, and is done again or counted as done.
//!
//! Workers do not poll. Each waits for an arrival on its queue, for the next moment at which
//! something is due by itself, or for one of its own calls to end.

pub mod announcer;
pub mod courier;
pub mod enquiries;
pub mod hooker;
pub mod releaser;
pub mod sealer;
pub mod signatory;
