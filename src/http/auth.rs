//! Bearer tokens: who makes a request and what they may do.
//!
//! The token file holds no secret, only the SHA-256 of each token. One line per token, `#`
//! begins a comment:
//!
//! ```text
//! # name   sha256 of the token, hexadecimal                                         scopes
//! lab      2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae  submit,read
//! shipping fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9  consume
//! ```
//!
//! A token should be long and random, so a plain hash is enough: there is nothing to guess.
//! The comparison takes the same time whichever token matches, and none of it is logged.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::http::problem::{Kind, Problem};
use crate::http::request::Caller;
use crate::limits::{TOKEN_NAME_BYTES_MAX, TOKENS_MAX};

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// To store and withdraw formulas.
    Submit,
    /// To look at everything.
    Read,
    /// To lease messages and settle leases.
    Consume,
    /// To redrive and purge dead letters, and to operate the server.
    Admin,
}

impl Scope {
    const ALL: [Scope; 4] = [Scope::Submit, Scope::Read, Scope::Consume, Scope::Admin];

    /// Its name in token files and problems.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Scope::Submit => "submit",
            Scope::Read => "read",
            Scope::Consume => "consume",
            Scope::Admin => "admin",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// The tokens that a server knows: at least one, no two of the same name or hash.
#[derive(Debug)]
pub struct Tokens(Vec<Token>);

struct Token {
    name: Arc<str>,
    sha256: [u8; 32],
    /// One bit per scope.
    scopes: u8,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.name)
    }
}

impl Tokens {
    /// Reads the text of the token file `path`.
    ///
    /// # Errors
    /// Names the file and the first line that is wrong.
    pub fn parse(path: &Path, text: &str) -> Result<Tokens, BadTokens> {
        let bad = |line, fault| BadTokens { path: path.to_owned(), line, fault };
        let mut tokens: Vec<Token> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let content = line.split('#').next().unwrap_or_default().trim();
            if content.is_empty() {
                continue;
            }
            let token = Token::parse(content).map_err(|fault| bad(number, fault))?;
            if tokens.iter().any(|t| t.name == token.name || t.sha256 == token.sha256) {
                return Err(bad(number, BadToken::Repeated));
            }
            if tokens.len() == TOKENS_MAX {
                return Err(bad(number, BadToken::TooMany));
            }
            tokens.push(token);
        }
        if tokens.is_empty() {
            return Err(bad(0, BadToken::Missing));
        }
        Ok(Tokens(tokens))
    }

    /// Who makes a request with these headers, if they may use `scope`.
    ///
    /// # Errors
    /// 401 without a known token, 403 without the scope.
    pub(crate) fn authorize(&self, headers: &HeaderMap, scope: Scope) -> Result<Caller, Problem> {
        let presented = bearer(headers)?;
        let Some(token) = self.find(presented) else {
            return Err(Problem::unauthorized("the bearer token is not known"));
        };
        if token.scopes & scope.bit() == 0 {
            let detail = format!("the token lacks the scope {}", scope.name());
            return Err(Problem::new(Kind::Forbidden, detail)
                .member("scope", format!("\"{}\"", scope.name())));
        }
        Ok(Caller::Token(Arc::clone(&token.name)))
    }

    /// Looks at every token, so that the time says nothing about which one matched.
    fn find(&self, presented: &[u8]) -> Option<&Token> {
        let sha256: [u8; 32] = Sha256::digest(presented).into();
        let mut found = u32::MAX;
        for (index, token) in (0..).zip(&self.0) {
            let equal: Choice = sha256.ct_eq(&token.sha256);
            found.conditional_assign(&index, equal);
        }
        self.0.get(found as usize)
    }
}

impl Token {
    fn parse(line: &str) -> Result<Token, BadToken> {
        let mut fields = line.split_ascii_whitespace();
        let (Some(name), Some(sha256), Some(scopes), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(BadToken::Fields);
        };
        if name.len() > TOKEN_NAME_BYTES_MAX || !name.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(BadToken::Name);
        }
        let sha256 = parse_sha256(sha256).ok_or(BadToken::Hash)?;
        let mut bits = 0;
        for name in scopes.split(',') {
            let scope = Scope::ALL.into_iter().find(|scope| scope.name() == name);
            bits |= scope.ok_or_else(|| BadToken::Scope(name.into()))?.bit();
        }
        Ok(Token { name: name.into(), sha256, scopes: bits })
    }
}

fn parse_sha256(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut sha256 = [0; 32];
    for (i, byte) in sha256.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(sha256)
}

/// The token in `Authorization: Bearer …`.
fn bearer(headers: &HeaderMap) -> Result<&[u8], Problem> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Problem::unauthorized("the request needs one Authorization header"));
    };
    let value = value.as_bytes();
    match value.split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => Ok(token.trim_ascii()),
        _ => Err(Problem::unauthorized("the header Authorization is not Bearer with a token")),
    }
}

/// A token file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadTokens {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1; 0 when no one line is at fault.
    pub line: usize,
    /// What is wrong with it.
    pub fault: BadToken,
}

/// What is wrong with a line of a token file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadToken {
    /// Not three fields.
    Fields,
    /// The name is too long or not visible ASCII.
    Name,
    /// The hash is not 64 hexadecimal digits.
    Hash,
    /// There is no such scope.
    Scope(Box<str>),
    /// The name or the hash stands on an earlier line.
    Repeated,
    /// More than `TOKENS_MAX` tokens.
    TooMany,
    /// No token at all.
    Missing,
}

impl fmt::Display for BadTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BadTokens { path, line, fault } = self;
        match line {
            0 => write!(f, "{}: {fault}", path.display()),
            line => write!(f, "{}:{line}: {fault}", path.display()),
        }
    }
}

impl fmt::Display for BadToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadToken::Fields => f.write_str("a line is: name, sha256, scopes joined by commas"),
            BadToken::Name => {
                write!(f, "the name is not 1 to {TOKEN_NAME_BYTES_MAX} visible ASCII characters")
            }
            BadToken::Hash => f.write_str("the hash is not 64 hexadecimal digits of SHA-256"),
            BadToken::Scope(name) => {
                write!(f, "{name:?} is no scope; there are submit, read, consume, admin")
            }
            BadToken::Repeated => f.write_str("the name or the hash stands on an earlier line"),
            BadToken::TooMany => write!(f, "more than {TOKENS_MAX} tokens"),
            BadToken::Missing => f.write_str("no token in the file: nobody could do anything"),
        }
    }
}

impl std::error::Error for BadTokens {}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    // SHA-256 of "foo" and of "bar".
    const FILE: &str = "# who\n\
        lab 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae submit,read # us\n\n\
        ship fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9 consume\n";

    fn tokens() -> Tokens {
        Tokens::parse(Path::new("tokens"), FILE).expect("the file is valid")
    }

    fn status(authorization: Option<&'static str>, scope: Scope) -> Result<String, u16> {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, HeaderValue::from_static(value));
        }
        match tokens().authorize(&headers, scope) {
            Ok(caller) => Ok(caller.name().to_owned()),
            Err(problem) => Err(problem.status().as_u16()),
        }
    }

    #[test]
    fn a_token_opens_its_scopes_and_no_others() {
        assert_eq!(status(Some("Bearer foo"), Scope::Submit), Ok("lab".into()));
        assert_eq!(status(Some("bearer bar"), Scope::Consume), Ok("ship".into()));
        assert_eq!(status(Some("Bearer foo"), Scope::Consume), Err(403));
        assert_eq!(status(Some("Bearer bar"), Scope::Admin), Err(403));
    }

    #[test]
    fn no_token_or_a_strange_one_is_unauthorized() {
        for value in [None, Some("Bearer baz"), Some("Basic foo"), Some("Bearer"), Some("")] {
            assert_eq!(status(value, Scope::Read), Err(401), "{value:?}");
        }
    }

    #[test]
    fn faults_name_file_and_line() {
        let hash = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
        let fault = |text: &str| {
            Tokens::parse(Path::new("/etc/tokens"), text).expect_err("invalid").to_string()
        };
        assert!(fault(&format!("\na {hash}")).starts_with("/etc/tokens:2: a line is"));
        assert!(fault(&format!("a {hash} read,write")).contains(":1: \"write\" is no scope"));
        assert!(fault(&format!("a {hash}0 read")).contains("64 hexadecimal digits"));
        assert!(fault(&format!("a {hash} read\nb {hash} read")).contains(":2: the name or the"));
        assert!(fault("# nothing\n").starts_with("/etc/tokens: no token"));
    }
}
