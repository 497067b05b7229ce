//! Part C of the behaviours: groups on all partner nodes or on none, with the real program and
//! simulated nodes.
//!
//! Rows are told by the names of the tests. What the program that this grew from did wrong has a
//! test that would catch it: it answered 500 to every request and to bad actions (`c04`), took a call
//! that was not answered for one that did nothing (`c09_whatever`), undid what it had not made
//! (`c09_a_group_that_was_there`), tried again at once (`c08`), blocked while it waited
//! (`c09_undo_is_tried`) and forgot everything at a crash (`crash`).
//!
//! Nothing sleeps, and no time is asserted but one: that a wait was not left out, by the clock of
//! the nodes.

#[path = "../common/mod.rs"]
mod common;

mod answers;
mod calls;
mod crash;
mod flow;
mod health;
mod real;
mod silence;
mod support;
mod tools;
mod undo;
