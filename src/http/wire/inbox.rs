//! The bytes between the socket and hyper.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use crate::limits::INBOX_BYTES;

/// What has come from the socket and was not passed on yet.
///
/// ```text
/// bytes:  | passed on | seen, may be passed on | unseen | room |
///                     start                    seen     end
/// ```
pub(super) struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    seen: usize,
    end: usize,
}

impl Inbox {
    pub(super) fn new() -> Inbox {
        Inbox { bytes: Vec::new(), start: 0, seen: 0, end: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(super) fn unseen(&self) -> &[u8] {
        &self.bytes[self.seen..self.end]
    }

    pub(super) fn see(&mut self, bytes: usize) {
        self.seen += bytes;
        assert!(self.seen <= self.end, "only what has come can be seen");
    }

    pub(super) fn see_all(&mut self) {
        self.seen = self.end;
    }

    pub(super) fn drop_unseen(&mut self) {
        self.end = self.seen;
    }

    pub(super) fn clear(&mut self) {
        (self.start, self.seen, self.end) = (0, 0, 0);
    }

    /// Puts `bytes`, seen, in the place of everything unseen.
    pub(super) fn replace_unseen(&mut self, bytes: &[u8]) {
        self.end = self.seen;
        self.append_seen(bytes);
    }

    /// Puts `bytes`, seen, at the end; nothing may be unseen.
    pub(super) fn append_seen(&mut self, bytes: &[u8]) {
        assert_eq!(self.seen, self.end, "what is unseen comes before");
        self.bytes.truncate(self.end);
        self.bytes.extend_from_slice(bytes);
        self.end = self.bytes.len();
        self.seen = self.end;
    }

    /// Moves what was seen to `buffer`; whether there was any.
    pub(super) fn pass_on(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let bytes = buffer.remaining().min(self.seen - self.start);
        buffer.put_slice(&self.bytes[self.start..self.start + bytes]);
        self.start += bytes;
        bytes > 0
    }

    /// Reads once from `socket`, to a room of at least half the inbox.
    pub(super) fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.make_room();
        let mut room = ReadBuf::new(&mut self.bytes[self.end..]);
        ready!(Pin::new(socket).poll_read(cx, &mut room))?;
        let bytes = room.filled().len();
        self.end += bytes;
        Poll::Ready(Ok(bytes))
    }

    fn make_room(&mut self) {
        self.bytes.copy_within(self.start..self.end, 0);
        (self.seen, self.end) = (self.seen - self.start, self.end - self.start);
        self.start = 0;
        // Only a head is kept here while it grows, so the inbox never needs more than two.
        let wanted = INBOX_BYTES.max(self.end * 2);
        if self.bytes.len() < wanted {
            self.bytes.resize(wanted, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_was_seen_is_passed_on() {
        let mut inbox = Inbox::new();
        let mut socket: &[u8] = b"one two";
        let filled = std::future::poll_fn(|cx| inbox.poll_fill(&mut socket, cx)).await;
        assert_eq!(filled.expect("it is in memory"), 7);
        let mut bytes = [0; 16];
        let mut buffer = ReadBuf::new(&mut bytes);
        assert!(!inbox.pass_on(&mut buffer));
        inbox.see(4);
        assert!(inbox.pass_on(&mut buffer));
        assert_eq!((buffer.filled(), inbox.unseen()), (&b"one "[..], &b"two"[..]));
        inbox.replace_unseen(b"2");
        inbox.append_seen(b"!");
        assert!(inbox.pass_on(&mut buffer));
        assert_eq!(buffer.filled(), b"one 2!");
        assert!(inbox.is_empty());
    }

    #[tokio::test]
    async fn a_small_buffer_gets_its_fill_and_the_rest_later() {
        let mut inbox = Inbox::new();
        let mut socket: &[u8] = b"abcdef";
        let filled = std::future::poll_fn(|cx| inbox.poll_fill(&mut socket, cx)).await;
        filled.expect("it is in memory");
        inbox.see_all();
        for expected in [b"abcd".as_slice(), b"ef"] {
            let mut bytes = [0; 4];
            let mut buffer = ReadBuf::new(&mut bytes);
            assert!(inbox.pass_on(&mut buffer));
            assert_eq!(buffer.filled(), expected);
        }
    }

    #[tokio::test]
    async fn what_is_unseen_keeps_its_place_while_more_comes() {
        let mut inbox = Inbox::new();
        let text = vec![b'x'; 3 * INBOX_BYTES];
        let mut socket = text.as_slice();
        while !socket.is_empty() {
            let filled = std::future::poll_fn(|cx| inbox.poll_fill(&mut socket, cx)).await;
            assert!(filled.expect("it is in memory") > 0);
        }
        assert_eq!(inbox.unseen(), text);
    }
}
