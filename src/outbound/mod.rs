//! Calls to others: the authority that seals, partners' nodes, and hooks.
//!
//! ```text
//! authority   one call to the authority, and what its answer means
//! nodes       one call to a partner's node, and what its answer means
//!   health    how the nodes are doing, from the calls made
//! breaker     when a node that fails is left alone                                pure
//! signature   proves to a hook that a delivery is ours (Standard Webhooks)
//! backoff     how long to wait before the next try                              pure
//! client      one HTTP call with deadlines and bounds: an answer or a fault
//!   target    what may be called at all, as text                                pure
//!   vet       what may be called at all, as an address
//!   lookup    the system's name resolution, off the network thread
//!   dial      names to vetted addresses to connections
//!   tls       whom to trust
//!   fault     why there is no answer
//! ```
//!
//! What is called may be chosen by whoever can submit (a hook's address) and may be down, slow
//! or hostile. So an address is vetted where it is dialled and nowhere earlier alone; every wait
//! has an end; and every answer has a size after which nobody reads on. Redirects are answers
//! like others: following them would be calling what nobody vetted.
//!
//! Nothing here tries a call again or knows why it is made: that is decided, and recorded, above.

pub mod authority;
pub mod authority_key;
pub mod backoff;
pub mod breaker;
pub mod client;
mod dial;
pub mod fault;
#[cfg(test)]
mod harness;
pub mod lookup;
pub mod nodes;
pub mod signature;
pub mod target;
pub mod tls;
pub mod vet;
