//! Why a measurement ended without a result.
//!
//! A wrong answer has no speed: the first one ends the run, with what was wrong about it. Being
//! turned away (429, 503) is no wrong answer; it is counted.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::cli::retry::for_terminal;

/// What a measurement came to grief on.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The server's name has no address.
    Unresolved { host: String, error: io::Error },
    /// Nobody accepts connections there.
    Unreachable { address: SocketAddr, error: io::Error },
    /// A connection ended in the middle of an exchange.
    Broken { address: SocketAddr, error: io::Error },
    /// What came is not HTTP, or longer than `CLIENT_RESPONSE_BYTES_MAX`.
    NotHttp { address: SocketAddr },
    /// The server refused what it must take.
    Refused { status: u16, detail: String },
    /// The server took it and answered something else than what was sent.
    Wrong { mistake: Mistake, answer: String },
    /// There are no more numbers below `BENCH_NUMBERS_MAX` to make formulas of.
    Exhausted,
    /// A server of our own could not be started or watched.
    Child { what: &'static str, error: io::Error },
    /// A server of our own ended, with this as its last word.
    ChildEnded { words: String },
    /// The timer of the open loop failed.
    Timer(io::Error),
    /// Signals cannot be listened for.
    Signals(io::Error),
    /// A signal asked to end.
    Interrupted,
}

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// It has another status than this call has when it succeeds.
    Status { expected: u16, given: u16 },
    /// It has no id, or its `Location` is not that of its id.
    Location,
    /// Its id is not that of the make-up that was sent or asked for.
    Id,
    /// It does not echo the name.
    Name,
    /// There are fewer or more result lines than lines.
    Results,
    /// It does not say of each receipt that it is done.
    Receipts,
    /// It delivers a message that was acked before.
    Twice,
    /// It does not say what it should.
    Content,
}

/// Characters of a wrong answer that are shown.
const SHOWN_CHARS: usize = 300;

impl Fault {
    /// A wrong answer with this body.
    pub(crate) fn wrong(mistake: Mistake, body: &[u8]) -> Fault {
        let text = String::from_utf8_lossy(body);
        let shown = text.chars().take(SHOWN_CHARS).collect::<String>();
        Fault::Wrong { mistake, answer: for_terminal(&shown) }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Unresolved { host, error } => write!(f, "cannot find {host}: {error}"),
            Fault::Unreachable { address, error } => {
                write!(f, "cannot reach {address}: {error}; is `sillage serve` running?")
            }
            Fault::Broken { address, error } => {
                write!(f, "the connection to {address} broke: {error}")
            }
            Fault::NotHttp { address } => write!(f, "{address} does not answer in HTTP/1.1"),
            Fault::Refused { status, detail } => {
                write!(f, "the server answered {status}: {detail}")
            }
            Fault::Wrong { mistake, answer } => write!(f, "wrong answer: {mistake}: {answer}"),
            Fault::Exhausted => f.write_str("no numbers are left: choose a smaller --first"),
            Fault::Child { what, error } => write!(f, "{what}: {error}"),
            Fault::ChildEnded { words } => write!(f, "the server that was started ended: {words}"),
            Fault::Timer(error) => write!(f, "the timer: {error}"),
            Fault::Signals(error) => write!(f, "listening for signals: {error}"),
            Fault::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mistake::Status { expected, given } => {
                return write!(f, "status {given} instead of {expected}");
            }
            Mistake::Location => "the location does not fit the id",
            Mistake::Id => "the id is not that of the make-up",
            Mistake::Name => "the name is not the one that was sent",
            Mistake::Results => "not one result for each line",
            Mistake::Receipts => "not every valid receipt is done",
            Mistake::Twice => "a message came again after its ack",
            Mistake::Content => "the answer does not say what it should",
        })
    }
}
