//! Which server is asked, and the heads of requests to it.

use std::io::Write as _;
use std::net::{SocketAddr, ToSocketAddrs as _};

use hyper::Uri;

use crate::cli::bench::fault::Fault;
use crate::cli::failure::Failure;
use crate::cli::http_client::Token;

/// The port of an address without one.
const HTTP_PORT: u16 = 80;

/// A server's address with all that each request to it repeats. Never shown whole: it may hold
/// a token.
pub(crate) struct Target {
    address: SocketAddr,
    /// What the paths begin with, without a slash at the end.
    prefix: String,
    /// The value of `Host`.
    host: String,
    /// The value of `Authorization`; empty without a token.
    authorization: String,
}

impl Target {
    /// The server that listens on this address, asked without a token.
    pub(crate) fn at(address: SocketAddr) -> Target {
        let host = address.to_string();
        Target { address, prefix: String::new(), host, authorization: String::new() }
    }

    /// The server of this URL.
    pub(crate) fn of(url: &str, token: Option<&Token>) -> Result<Target, Failure> {
        let bad = || Failure::BadUrl { url: url.to_owned() };
        let uri: Uri = url.parse().map_err(|_| bad())?;
        let host = uri.host().filter(|_| uri.scheme_str() == Some("http") && uri.query().is_none());
        let host = host.ok_or_else(bad)?;
        let named = (host.trim_matches(['[', ']']), uri.port_u16().unwrap_or(HTTP_PORT));
        let address = match named.to_socket_addrs().map(|mut addresses| addresses.next()) {
            Ok(Some(address)) => Ok(address),
            Ok(None) => Err(std::io::ErrorKind::NotFound.into()),
            Err(error) => Err(error),
        };
        let unresolved = |error| Fault::Unresolved { host: host.to_owned(), error };
        Ok(Target {
            address: address.map_err(unresolved)?,
            prefix: uri.path().trim_end_matches('/').to_owned(),
            host: uri.authority().map(ToString::to_string).unwrap_or_default(),
            authorization: token.map(Token::authorization).unwrap_or_default(),
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The value of `Host`.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The value of `Authorization`, if there is a token.
    pub(crate) fn authorization(&self) -> Option<&str> {
        Some(self.authorization.as_str()).filter(|value| !value.is_empty())
    }

    /// The path of a call on this server.
    pub(crate) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// Appends a `GET`.
    pub(crate) fn get(&self, path: &str, out: &mut Vec<u8>) {
        self.get_of(path, "", out);
    }

    /// Appends a `GET` of the thing with this name below a path that ends in a slash.
    pub(crate) fn get_of(&self, path: &str, name: &str, out: &mut Vec<u8>) {
        self.begin("GET", path, name, out);
        out.extend_from_slice(b"\r\n");
    }

    /// Appends a `POST` of this JSON.
    pub(crate) fn post(&self, path: &str, body: &[u8], out: &mut Vec<u8>) {
        self.begin("POST", path, "", out);
        let bytes = body.len();
        write!(out, "content-type: application/json\r\ncontent-length: {bytes}\r\n\r\n")
            .expect("a buffer takes every write");
        out.extend_from_slice(body);
    }

    /// Appends a `POST` without a body.
    pub(crate) fn post_nothing(&self, path: &str, out: &mut Vec<u8>) {
        self.begin("POST", path, "", out);
        out.extend_from_slice(b"content-length: 0\r\n\r\n");
    }

    fn begin(&self, method: &str, path: &str, name: &str, out: &mut Vec<u8>) {
        let Target { prefix, host, authorization, .. } = self;
        for part in [method, " ", prefix, path, name, " HTTP/1.1\r\nhost: ", host, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        if !authorization.is_empty() {
            for part in ["authorization: ", authorization, "\r\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(target: &Target) -> String {
        let mut request = Vec::new();
        target.get("/x", &mut request);
        String::from_utf8(request).expect("ASCII")
    }

    #[test]
    fn requests_carry_host_prefix_and_token() {
        let token: Token = "s3cret".parse().expect("visible ASCII");
        let target = Target::of("http://127.0.0.1:8080/lab/", Some(&token)).expect("a URL");
        let expected = "GET /lab/x HTTP/1.1\r\nhost: 127.0.0.1:8080\r\n\
                        authorization: Bearer s3cret\r\n\r\n";
        assert_eq!(get(&target), expected);
        let plain = Target::of("http://127.0.0.1", None).expect("a URL");
        assert_eq!(plain.address().port(), HTTP_PORT);
        assert_eq!(get(&plain), "GET /x HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
    }

    #[test]
    fn only_plain_http_addresses_are_taken() {
        for wrong in ["", "127.0.0.1:80", "https://127.0.0.1", "http://127.0.0.1/?a=b"] {
            assert!(Target::of(wrong, None).is_err(), "{wrong}");
        }
    }
}
