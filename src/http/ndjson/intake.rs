//! From lines to chunks: each line is parsed at once and kept only as what it says.

use bytes::Bytes;

use crate::engine::command::{Item, Submission};
use crate::formula::{self, Rules};
use crate::http::formulas::{ROUTE, refuse};
use crate::http::keys::{IdempotencyKey, RequestDigest};
use crate::http::problem::{Kind, Problem};
use crate::http::request::Caller;
use crate::limits::{NDJSON_CHUNK_BYTES, NDJSON_CHUNK_LINES, NDJSON_LINE_BYTES_MAX};

/// Lines that go to the engine in one batch.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    /// What is to be done with each line, in order.
    pub(super) lines: Vec<Verdict>,
    /// What the engine is to decide: one item for each [`Verdict::Engine`].
    pub(super) items: Vec<Item>,
    /// Bytes of its lines.
    bytes: usize,
}

/// A line that was read: its length, and what the engine is to do with it.
pub(super) type Checked = (usize, Result<Submission, Problem>);

/// Who answers a line.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The engine.
    Engine,
    /// It is refused before the engine sees it.
    Refused(Problem),
}

impl Chunk {
    /// Adds a line.
    pub(super) fn push(&mut self, (bytes, checked): Checked) {
        self.bytes += bytes;
        self.lines.push(match checked {
            Ok(submission) => {
                self.items.push(Item::Valid(submission));
                Verdict::Engine
            }
            Err(problem) => Verdict::Refused(problem),
        });
    }

    /// Bytes that it keeps in memory: until the engine has decided, its items are there twice.
    pub(super) fn bytes_held(&self) -> usize {
        2 * self.bytes
    }

    /// Whether it is to be launched before another line is taken.
    pub(super) fn is_full(&self) -> bool {
        self.lines.len() >= NDJSON_CHUNK_LINES || self.bytes >= NDJSON_CHUNK_BYTES
    }
}

/// Checks the lines of one stream.
#[derive(Clone, Debug)]
pub(super) struct Intake {
    /// What configuration may change about the checks.
    pub(super) rules: Rules,
    /// Who sends the stream.
    pub(super) caller: Caller,
    /// The key of the stream, if it has one.
    pub(super) key: Option<IdempotencyKey>,
}

impl Intake {
    /// Reads a line.
    pub(super) fn check(&self, number: u64, content: &Bytes) -> Checked {
        let checked = formula::parse(content, &self.rules).map_err(|invalid| refuse(&invalid));
        let submission = checked.map(|formula::Checked { formula, fingerprint }| {
            let key = self.key.as_ref().map(|key| {
                let digest = RequestDigest::of(ROUTE, "", content);
                key.of_line(self.caller.name(), number, digest)
            });
            Submission { formula, fingerprint, key }
        });
        (content.len(), submission)
    }
}

/// What becomes of a line that is too long.
pub(super) fn refuse_too_long(number: u64) -> Checked {
    (0, Err(too_long(number)))
}

fn too_long(number: u64) -> Problem {
    let detail = format!("line {number} has more than {NDJSON_LINE_BYTES_MAX} bytes");
    Problem::new(Kind::BodyTooLarge, detail).member("bytes_max", NDJSON_LINE_BYTES_MAX.to_string())
}
