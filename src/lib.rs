//! # Sillage
//!
//! A service that takes fragrance formulas over HTTP, stores each exactly once and puts it on a
//! durable queue. *Sillage* is the trail that a perfume leaves; here the trail is the log, and
//! the log is the database.
//!
//! ## The promise
//!
//! Each accepted formula is **one CRC-checked record in one log**. That record is at once the
//! stored formula, its entry in the index of make-ups, the answer to a repeated request, and the
//! message on the queue. There is no second write, so there is nothing to keep in step: see the
//! arm `FormulaAccepted` of [`state::State::apply`], where the four are one.
//!
//! ## The way of one POST
//!
//! ```text
//! bytes → http → formula::parse → Command
//!    findings: what the snapshot holds of the make-up and the key, mostly told by its filter
//!                                        ──► engine::writer (one thread owns log and state)
//!    decide(View, Command, circumstances)     state and findings; a refusal changes nothing
//!    append(codec(Record)) → Lsn              not yet durable
//!    apply(Lsn, &Record)                      index, keys and queue in one match arm
//!    … the next command of the batch already sees it …
//!    sync()                                   once per batch (group commit)
//!    release every reply ≤ durable Lsn        → http → bytes
//! replay: snapshot's image, then log → codec → the same apply
//! ```
//!
//! ## Snapshots
//!
//! Neither memory nor the time of a start grows with the store. When the log has grown to the
//! size of the last snapshot, [`engine::compactor`] reads that and the segments since, by the
//! same `apply`, and writes what is left of them into one immutable file that is its own index
//! ([`log::snapshot`]): bodies, tables of make-ups and keys, and the queues. From then on the
//! state holds what came after ([`state::rest`]), and asks the file for the rest. The two newest
//! are kept, with the log since the older one.
//!
//! ## What always holds
//!
//! * **Output rule.** Nothing leaves the process before the log is durable up to the LSN that it
//!   was computed from. [`engine::pending::Pending`] holds the rule by its type.
//! * **Decisions are facts.** The log holds what was decided, never what was asked; `apply`
//!   cannot fail and looks at nothing but the record.
//! * **Damage is reported, never skipped.** Every frame carries evidence of how far the log was
//!   durable when it was written, so a torn tail and lost data can be told apart ([`log`]).
//! * **A failed sync ends the process.** It is never tried again.
//! * **Everything is bounded** ([`limits`]).
//!
//! ## Modules in reading order
//!
//! | module | holds |
//! |---|---|
//! | [`limits`], [`ids`], [`time`] | bounds with their reasons; numbers that must not be mixed up; the clocks |
//! | [`formula`] | what a formula is and when two are the same |
//! | [`record`] | the facts, and their bytes, in the log and in a snapshot |
//! | [`log`] | frames, segments, snapshots, recovery, the door to the disk |
//! | [`state`] | what the records add up to, above a snapshot |
//! | [`engine`] | decisions, the writer, the compactor, questions |
//! | [`http`] | the server: one route table, bounds, drain |
//! | [`outbound`] | calls to others: who may be called, deadlines, signatures |
//! | [`workers`] | the built-in consumers: for seals, hooks and releases |
//! | [`config`], [`metrics`] | settings with their origin; what is measured |
//! | [`cli`] | the commands |

pub mod cli;
pub mod config;
pub mod engine;
pub mod formula;
pub mod http;
pub mod ids;
pub mod limits;
pub mod log;
pub mod metrics;
pub mod outbound;
pub mod record;
pub mod state;
pub mod time;
pub mod workers;

#[cfg(test)]
mod tests;
