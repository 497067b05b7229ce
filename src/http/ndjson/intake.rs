//! From lines to chunks: each line is parsed at once and kept only as what it says.

use crate::engine::command::{Item, Submission};
use crate::formula::{self, Rules};
use crate::http::formulas::{ROUTE, refuse};
use crate::http::keys::{IdempotencyKey, RequestDigest};
use crate::http::lines::Line;
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

/// Who answers a line.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The engine.
    Engine,
    /// It is refused before the engine sees it.
    Refused(Problem),
}

impl Chunk {
    /// Whether it is to be launched before another line is taken.
    pub(super) fn is_full(&self) -> bool {
        self.lines.len() >= NDJSON_CHUNK_LINES || self.bytes >= NDJSON_CHUNK_BYTES
    }
}

/// Checks the lines of one stream.
#[derive(Debug)]
pub(super) struct Intake {
    /// What configuration may change about the checks.
    pub(super) rules: Rules,
    /// Who sends the stream.
    pub(super) caller: Caller,
    /// The key of the stream, if it has one.
    pub(super) key: Option<IdempotencyKey>,
}

impl Intake {
    /// Adds a line to the chunk.
    pub(super) fn take(&self, line: Line, chunk: &mut Chunk) {
        let Some(content) = line.content else {
            return chunk.lines.push(Verdict::Refused(too_long(line.number)));
        };
        chunk.bytes += content.len();
        match formula::parse(&content, &self.rules) {
            Ok(formula::Checked { formula, fingerprint }) => {
                let key = self.key.as_ref().map(|key| {
                    let digest = RequestDigest::of(ROUTE, "", &content);
                    key.of_line(self.caller.name(), line.number, digest)
                });
                chunk.lines.push(Verdict::Engine);
                chunk.items.push(Item::Valid(Submission { formula, fingerprint, key }));
            }
            Err(invalid) => chunk.lines.push(Verdict::Refused(refuse(&invalid))),
        }
    }
}

fn too_long(number: u64) -> Problem {
    let detail = format!("line {number} has more than {NDJSON_LINE_BYTES_MAX} bytes");
    Problem::new(Kind::BodyTooLarge, detail).member("bytes_max", NDJSON_LINE_BYTES_MAX.to_string())
}
