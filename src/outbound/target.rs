//! What may be called, as text.
//!
//! A URL is read once, by the rules that browsers have agreed on (WHATWG), and every part that
//! counts comes from that one reading: the address to dial, the port, and the line that is sent.
//! Two readers that differ on where a host ends are how a guard is talked past. Those rules also
//! turn every spelling of an IPv4 address (`0x7f.1`, `2130706433`, `①②⑦.0.0.1`) into the
//! address, so that it is vetted as one.

use std::fmt;
use std::net::IpAddr;

use hyper::Uri;
use url::{Host, Url};

use crate::limits::{HOST_LABEL_BYTES_MAX, HOST_NAME_BYTES_MAX, URL_BYTES_MAX};
use crate::outbound::vet::Vetoed;

/// A URL that can be called: `http` or `https`, with a host, a port that is not 0, and neither
/// credentials nor a fragment; not longer than `URL_BYTES_MAX`, also in its normal form.
///
/// That it can be called does not say that it may be: see [`crate::outbound::client::Client`].
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    url: Url,
    uri: Uri,
    host: TargetHost,
    port: u16,
}

/// Where a target is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetHost {
    /// At this address.
    Address(IpAddr),
    /// At what this name stands for, at the time of the call.
    Name(String),
}

/// Why a text is not a URL that may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlFault {
    /// Longer than `URL_BYTES_MAX`.
    TooLong,
    /// Not an absolute URL, or with blanks, control characters or backslashes in it.
    Malformed,
    /// Neither `http` nor `https`.
    Scheme,
    /// It names a user or a password.
    Credentials,
    /// It has a fragment, which no server ever sees.
    Fragment,
    /// The host is missing or cannot be a name of the internet.
    Host,
    /// The port is 0.
    Port,
    /// The host's address may not be called.
    Vetoed(Vetoed),
    /// The name stands for no address.
    Unresolvable,
    /// Nobody said in time what the name stands for.
    LookupTimedOut,
}

impl fmt::Display for UrlFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UrlFault::TooLong => return write!(f, "the URL has more than {URL_BYTES_MAX} bytes"),
            UrlFault::Malformed => "not an absolute URL",
            UrlFault::Scheme => "the scheme is neither http nor https",
            UrlFault::Credentials => "the URL names a user or a password",
            UrlFault::Fragment => "the URL has a fragment",
            UrlFault::Host => "the URL names no host that can exist",
            UrlFault::Port => "the port is 0",
            // Without the address: who asks might not be allowed to look behind the name.
            UrlFault::Vetoed(_) => "the host is in a network that may not be called",
            UrlFault::Unresolvable => "the host's name stands for no address",
            UrlFault::LookupTimedOut => "the host's name could not be looked up in time",
        })
    }
}

impl std::error::Error for UrlFault {}

impl Target {
    /// Reads a URL. Nothing is looked up, and no address is vetted.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Target, UrlFault> {
        if text.len() > URL_BYTES_MAX {
            return Err(UrlFault::TooLong);
        }
        // The standard takes these off or turns them round. Whoever sends them means something
        // else than he will get.
        if text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\') {
            return Err(UrlFault::Malformed);
        }
        let url = Url::parse(text).map_err(|error| match error {
            url::ParseError::RelativeUrlWithoutBase => UrlFault::Malformed,
            url::ParseError::InvalidPort => UrlFault::Port,
            _ => UrlFault::Host,
        })?;
        Target::new(url)
    }

    fn new(url: Url) -> Result<Target, UrlFault> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(UrlFault::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlFault::Credentials);
        }
        if url.fragment().is_some() {
            return Err(UrlFault::Fragment);
        }
        if url.as_str().len() > URL_BYTES_MAX {
            return Err(UrlFault::TooLong);
        }
        let port = url.port_or_known_default().filter(|port| *port != 0);
        let port = port.ok_or(UrlFault::Port)?;
        let host = TargetHost::new(&url)?;
        let uri: Uri = url.as_str().parse().map_err(|_| UrlFault::Malformed)?;
        // The client reads host and port out of its own type.
        let is_same = uri.host() == url.host_str() && uri.port_u16() == url.port();
        if is_same { Ok(Target { url, uri, host, port }) } else { Err(UrlFault::Malformed) }
    }

    /// The normal form of the URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }

    /// Scheme, host and port: what may be shown of a URL whose path or query is a secret.
    #[must_use]
    pub fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// Where it is.
    #[must_use]
    pub fn host(&self) -> &TargetHost {
        &self.host
    }

    /// The port, also where the URL leaves it out. Never 0.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the client sends to.
    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The target at `path` below this one, with these parameters percent-encoded. A query that
    /// this one has is left out.
    ///
    /// # Errors
    /// `TooLong`: such a line cannot be sent. It may have more than `URL_BYTES_MAX`, as the
    /// operator named the host, but not more than `SEAL_TARGET_BYTES_MAX`.
    pub(super) fn below(&self, path: &str, query: &[(&str, &str)]) -> Result<Uri, UrlFault> {
        let mut line = format!("{}{path}", self.url.path().trim_end_matches('/'));
        for (at, (name, value)) in query.iter().enumerate() {
            line.push(if at == 0 { '?' } else { '&' });
            line.push_str(name);
            line.push('=');
            line.extend(percent_encoding::utf8_percent_encode(value, UNRESERVED));
        }
        if line.len() > crate::limits::SEAL_TARGET_BYTES_MAX {
            return Err(UrlFault::TooLong);
        }
        let mut parts = self.uri.clone().into_parts();
        parts.path_and_query = Some(line.parse().map_err(|_| UrlFault::Malformed)?);
        Uri::from_parts(parts).map_err(|_| UrlFault::Malformed)
    }
}

/// A text as one segment of a path, whatever is in it. `.` and `..` stay what they are: no
/// escaping keeps every reader from taking them for steps.
pub(super) fn segment(text: &str) -> percent_encoding::PercentEncode<'_> {
    percent_encoding::utf8_percent_encode(text, UNRESERVED)
}

/// All but what RFC 3986 calls unreserved, so that every reader agrees on what was meant.
const UNRESERVED: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl TargetHost {
    fn new(url: &Url) -> Result<TargetHost, UrlFault> {
        match url.host().ok_or(UrlFault::Host)? {
            Host::Ipv4(ip) => Ok(TargetHost::Address(ip.into())),
            Host::Ipv6(ip) => Ok(TargetHost::Address(IpAddr::V6(ip).to_canonical())),
            Host::Domain(name) if is_host_name(name) => Ok(TargetHost::Name(name.to_owned())),
            Host::Domain(_) => Err(UrlFault::Host),
        }
    }
}

/// Whether this can be looked up: labels of 1 to 63 bytes, 253 in all, one dot at the end.
fn is_host_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| (1..=HOST_LABEL_BYTES_MAX).contains(&label.len());
    name.len() <= HOST_NAME_BYTES_MAX && name.split('.').all(is_label)
}

impl fmt::Debug for Target {
    /// Path and query may hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({}/…)", self.origin())
    }
}

#[cfg(test)]
mod tests;
