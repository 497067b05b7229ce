//! Cuts a stream of bytes into lines, wherever its chunks happen to end.
//!
//! Blank lines are skipped but counted, so that a line's number is the one an editor shows. A
//! line over the limit is reported once and left out; the next line is read as if nothing had
//! happened. The last line counts even when no line feed ends it.

use bytes::{Buf, Bytes};

/// Splits what it is fed into lines.
#[derive(Debug)]
pub(super) struct LineSplitter {
    line_bytes_max: usize,
    /// Arrived and not yet looked at.
    chunk: Bytes,
    /// The beginning of a line whose end has not arrived; at most `line_bytes_max` bytes.
    begun: Vec<u8>,
    mode: Mode,
    /// Line feeds seen.
    ended: u64,
}

/// What to do with the bytes up to the next line feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Keep them.
    Take,
    /// They belong to a line that was reported as too long.
    Skip,
}

/// A line that is not blank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Its number in the stream, from 1, blank lines counted.
    pub(super) number: u64,
    /// What it holds, without the line feed; `None` when it is too long.
    pub(super) content: Option<Bytes>,
}

impl LineSplitter {
    /// A splitter for lines of at most `line_bytes_max` bytes, line feed not counted.
    pub(super) fn new(line_bytes_max: usize) -> LineSplitter {
        LineSplitter {
            line_bytes_max,
            chunk: Bytes::new(),
            begun: Vec::new(),
            mode: Mode::Take,
            ended: 0,
        }
    }

    /// Takes the next chunk. Ask for lines until there is none before feeding another.
    pub(super) fn feed(&mut self, chunk: Bytes) {
        assert!(self.chunk.is_empty(), "lines of the last chunk must be taken first");
        self.chunk = chunk;
    }

    /// Bytes kept of a line that has not ended.
    pub(super) fn begun_bytes(&self) -> usize {
        self.begun.len()
    }

    /// The next line that has ended, or has become too long; `None` when more bytes are needed.
    pub(super) fn next_line(&mut self) -> Option<Line> {
        while !self.chunk.is_empty() {
            let line = match memchr::memchr(b'\n', &self.chunk) {
                Some(end) => self.end_line(end),
                None => self.begin_line(),
            };
            if line.is_some() {
                return line;
            }
        }
        None
    }

    /// The last line, when no line feed ended it. Call once, after the last chunk.
    pub(super) fn finish(&mut self) -> Option<Line> {
        let content = Bytes::from(std::mem::take(&mut self.begun));
        is_filled(&content).then(|| Line { number: self.ended + 1, content: Some(content) })
    }

    /// Takes the rest of a line, up to the line feed at `end`.
    fn end_line(&mut self, end: usize) -> Option<Line> {
        let rest = self.chunk.split_to(end);
        self.chunk.advance(1);
        self.ended += 1;
        let number = self.ended;
        if std::mem::replace(&mut self.mode, Mode::Take) == Mode::Skip {
            return None;
        }
        let mut begun = std::mem::take(&mut self.begun);
        if begun.len() + rest.len() > self.line_bytes_max {
            return Some(Line { number, content: None });
        }
        let content = if begun.is_empty() {
            rest
        } else {
            begun.extend_from_slice(&rest);
            Bytes::from(begun)
        };
        is_filled(&content).then_some(Line { number, content: Some(content) })
    }

    /// Takes the rest of a chunk, in which the line does not end.
    fn begin_line(&mut self) -> Option<Line> {
        let piece = std::mem::take(&mut self.chunk);
        if self.mode == Mode::Skip {
            return None;
        }
        if self.begun.len() + piece.len() > self.line_bytes_max {
            self.begun = Vec::new();
            self.mode = Mode::Skip;
            return Some(Line { number: self.ended + 1, content: None });
        }
        self.begun.extend_from_slice(&piece);
        None
    }
}

/// Whether a line holds more than blanks.
fn is_filled(line: &[u8]) -> bool {
    line.iter().any(|byte| !byte.is_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINE_BYTES_MAX: usize = 8;

    fn split(chunks: &[&[u8]]) -> Vec<Line> {
        let mut splitter = LineSplitter::new(LINE_BYTES_MAX);
        let mut lines = Vec::new();
        for chunk in chunks {
            splitter.feed(Bytes::copy_from_slice(chunk));
            while let Some(line) = splitter.next_line() {
                lines.push(line);
            }
        }
        lines.extend(splitter.finish());
        lines
    }

    /// The rule in its simplest form, on the whole stream at once.
    fn model(stream: &[u8]) -> Vec<Line> {
        let lines = stream.split(|byte| *byte == b'\n').enumerate();
        let lines = lines.filter(|(_, line)| {
            line.len() > LINE_BYTES_MAX || line.iter().any(|byte| !byte.is_ascii_whitespace())
        });
        lines
            .map(|(index, line)| Line {
                number: index as u64 + 1,
                content: (line.len() <= LINE_BYTES_MAX).then(|| Bytes::copy_from_slice(line)),
            })
            .collect()
    }

    #[test]
    fn lines_end_at_line_feeds_and_at_the_end_of_the_stream() {
        let lines = split(&[b"ab\n\ncd", b"\r\n  \nlast"]);
        let expected = [(1, "ab"), (3, "cd\r"), (5, "last")];
        let expected = expected.map(|(number, text)| Line {
            number,
            content: Some(Bytes::from_static(text.as_ref())),
        });
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_line_over_the_limit_is_reported_once_and_the_next_one_is_read() {
        let lines = split(&[b"12345678\n12345", b"6789", b"and more\n", b"ok\n"]);
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0].content.as_deref(), Some(&b"12345678"[..]));
        assert_eq!(lines[1], Line { number: 2, content: None });
        assert_eq!(lines[2], Line { number: 3, content: Some(Bytes::from_static(b"ok")) });
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_where_chunks_end(
            pieces in prop::collection::vec("[ab \r\n]{0,12}", 0..12)
        ) {
            let chunks: Vec<&[u8]> = pieces.iter().map(String::as_bytes).collect();
            prop_assert_eq!(split(&chunks), model(&chunks.concat()));
        }
    }
}
