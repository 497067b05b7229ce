//! Every guard of the HTTP side, driven over real sockets with hand-written bytes.
//!
//! The server runs in this process on a free port, with bounds small enough that no test waits
//! long for one. No test sleeps: each waits for what the server does.
#![allow(clippy::disallowed_methods, reason = "tests measure how long things take")]
#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

mod admission;
mod backups;
mod bodies;
mod connections;
mod descriptors;
mod heads;
mod server;
