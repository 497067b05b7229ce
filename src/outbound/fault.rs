//! Why a call has no answer.
//!
//! The layers below wrap each other's errors; what matters to whoever decides about another try
//! is found here once, by walking from the outermost to the innermost.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::IpAddr;

use rustls::CertificateError;

use crate::outbound::vet::Vetoed;

/// Why a call has no answer, or no whole one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallFault {
    /// The host has only addresses that may not be called; one of them. Nothing was sent.
    Vetoed(IpAddr),
    /// The host's name stands for no address. Nothing was sent.
    Unresolvable,
    /// Nobody listens at the port. Nothing was sent.
    Refused,
    /// No way to the host. Nothing was sent.
    Unreachable,
    /// No secure connection came about. Nothing was sent.
    Tls(TlsFault),
    /// A deadline passed. Unless the phase is [`Phase::Connect`] the call may have taken effect.
    TimedOut {
        /// What was waited for.
        phase: Phase,
    },
    /// The connection ended before there was an answer. The call may have taken effect.
    Closed,
    /// What came back is not HTTP, or its head is too large.
    Broken,
    /// The answer broke off in its body.
    CutOff,
}

/// A part of a call that has a deadline of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Looking up the name, connecting, agreeing on keys.
    Connect,
    /// From the first byte sent to the end of the answer's head.
    Head,
    /// The answer's body.
    Body,
}

/// Why no secure connection came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFault {
    /// The certificate is not from anybody who is trusted.
    Issuer,
    /// The certificate's time is over or has not begun.
    Expired,
    /// The certificate is for another name.
    Name,
    /// The certificate is wrong in another way.
    Certificate,
    /// What answers does not speak TLS, or none that we speak.
    Protocol,
}

impl CallFault {
    /// Whether the other side cannot have seen any of the call.
    #[must_use]
    pub fn is_before_sending(self) -> bool {
        match self {
            CallFault::Vetoed(_)
            | CallFault::Unresolvable
            | CallFault::Refused
            | CallFault::Unreachable
            | CallFault::Tls(_) => true,
            CallFault::TimedOut { phase } => phase == Phase::Connect,
            CallFault::Closed | CallFault::Broken | CallFault::CutOff => false,
        }
    }

    /// The fault in an error of the HTTP client, before there was an answer.
    pub(super) fn of_client(error: &hyper_util::client::legacy::Error) -> CallFault {
        if error.is_connect() {
            // Dialling has its own faults, so what else fails here is the secure layer.
            let fault = chain(error).find_map(of_connecting);
            return fault.unwrap_or(CallFault::Tls(TlsFault::Protocol));
        }
        let mut hyper = chain(error).filter_map(|error| error.downcast_ref::<hyper::Error>());
        let is_broken = hyper.any(|error| error.is_parse() || error.is_parse_too_large());
        if is_broken { CallFault::Broken } else { CallFault::Closed }
    }
}

/// What one error of a chain says by itself about why there is no connection.
fn of_connecting(error: &(dyn Error + 'static)) -> Option<CallFault> {
    if let Some(fault) = error.downcast_ref::<CallFault>() {
        return Some(*fault);
    }
    let error = error.downcast_ref::<rustls::Error>()?;
    Some(CallFault::Tls(TlsFault::of(error)))
}

/// An error and what it wraps.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |outer| wrapped(*outer))
}

/// The standard library's own wrapper leaves out of its sources what it holds itself.
fn wrapped<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>() {
        Some(error) => error.get_ref().map(|held| held as &(dyn Error + 'static)),
        None => error.source(),
    }
}

impl From<Vetoed> for CallFault {
    fn from(vetoed: Vetoed) -> CallFault {
        CallFault::Vetoed(vetoed.0)
    }
}

impl fmt::Display for CallFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallFault::Vetoed(address) => Vetoed(*address).fmt(f),
            CallFault::Unresolvable => f.write_str("the host's name stands for no address"),
            CallFault::Refused => f.write_str("connection refused"),
            CallFault::Unreachable => f.write_str("host unreachable"),
            CallFault::Tls(fault) => fault.fmt(f),
            CallFault::TimedOut { phase: Phase::Connect } => f.write_str("no connection in time"),
            CallFault::TimedOut { phase: Phase::Head } => f.write_str("no answer in time"),
            CallFault::TimedOut { phase: Phase::Body } => f.write_str("no whole answer in time"),
            CallFault::Closed => f.write_str("connection closed before an answer"),
            CallFault::Broken => f.write_str("the answer is not HTTP"),
            CallFault::CutOff => f.write_str("the answer broke off"),
        }
    }
}

impl Error for CallFault {}

impl TlsFault {
    fn of(error: &rustls::Error) -> TlsFault {
        let rustls::Error::InvalidCertificate(error) = error else { return TlsFault::Protocol };
        match error {
            CertificateError::UnknownIssuer => TlsFault::Issuer,
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => TlsFault::Expired,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                TlsFault::Name
            }
            _ => TlsFault::Certificate,
        }
    }
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TlsFault::Issuer => "the certificate's issuer is not trusted",
            TlsFault::Expired => "the certificate is expired or not valid yet",
            TlsFault::Name => "the certificate is for another name",
            TlsFault::Certificate => "the certificate is wrong",
            TlsFault::Protocol => "no TLS connection",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_failed_before_the_call_was_sent_says_so() {
        let before = [
            CallFault::Vetoed([127, 0, 0, 1].into()),
            CallFault::Unresolvable,
            CallFault::Refused,
            CallFault::Unreachable,
            CallFault::Tls(TlsFault::Issuer),
            CallFault::TimedOut { phase: Phase::Connect },
        ];
        let after = [
            CallFault::TimedOut { phase: Phase::Head },
            CallFault::TimedOut { phase: Phase::Body },
            CallFault::Closed,
            CallFault::Broken,
            CallFault::CutOff,
        ];
        assert!(before.iter().all(|fault| fault.is_before_sending()));
        assert!(!after.iter().any(|fault| fault.is_before_sending()));
        for fault in before.into_iter().chain(after) {
            let text = fault.to_string();
            assert!(text.len() < 100 && !text.ends_with('.'), "{text}");
            assert!(text.starts_with(|c: char| c.is_lowercase() || c.is_ascii_digit()), "{text}");
        }
    }
}
