//! `Prefer: wait=N` (RFC 7240): how long a client wants to wait for the end of what takes long.
//!
//! A preference that is misspelt, or that this server does not know, is no error: it is not
//! honoured, and the answer says nothing of it.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use crate::limits::PREFER_WAIT_S_MAX;

/// The answer's header.
pub(super) const APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// The seconds of the first `wait`, at most `PREFER_WAIT_S_MAX`; `None` without one.
pub(super) fn wait_s(headers: &HeaderMap) -> Option<u64> {
    let lines = headers.get_all(PREFER).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).find_map(wait).map(|wait| wait.min(PREFER_WAIT_S_MAX))
}

/// What is said of it in the answer.
pub(super) fn applied(wait_s: u64) -> HeaderValue {
    HeaderValue::try_from(format!("wait={wait_s}")).expect("digits are a header's value")
}

fn wait(preference: &str) -> Option<u64> {
    let (preference, _parameters) = preference.split_once(';').unwrap_or((preference, ""));
    let (name, value) = preference.split_once('=')?;
    let value = value.trim();
    let bare = value.strip_prefix('"').and_then(|it| it.strip_suffix('"')).unwrap_or(value);
    let is_wait = name.trim().eq_ignore_ascii_case("wait");
    let is_number = !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_digit());
    // More digits than a number has are a wait without end.
    (is_wait && is_number).then(|| bare.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(PREFER, HeaderValue::from_str(line).expect("a header's value"));
        }
        wait_s(&headers)
    }

    #[test]
    fn the_first_wait_counts_and_what_is_misspelt_does_not() {
        assert_eq!(read(&["wait=10"]), Some(10));
        assert_eq!(read(&["respond-async, Wait = \"7\" ; x=1, wait=3"]), Some(7));
        assert_eq!(read(&["return=minimal", "wait=0"]), Some(0));
        for most in
            [format!("wait={}", PREFER_WAIT_S_MAX + 1), "wait=9".to_owned() + &"9".repeat(40)]
        {
            assert_eq!(read(&[&most]), Some(PREFER_WAIT_S_MAX), "{most}");
        }
        for none in ["", "wait", "wait=", "wait=-1", "wait=1.5", "wait=\"1", "await=1"] {
            assert_eq!(read(&[none]), None, "{none}");
        }
        assert_eq!(read(&[]), None);
    }
}
