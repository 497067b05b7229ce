//! A duration as an argument of a command.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::config::units::parse_duration_ms;

/// A duration on the command line, such as `30s`; none at all is `0`, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

impl FromStr for Span {
    type Err = MalformedSpan;

    fn from_str(text: &str) -> Result<Span, MalformedSpan> {
        // Nothing is nothing in every unit.
        let ms = if text == "0" { Some(0) } else { parse_duration_ms(text) };
        Ok(Span(Duration::from_millis(ms.ok_or(MalformedSpan)?)))
    }
}

/// The text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MalformedSpan;

impl fmt::Display for MalformedSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a duration such as 5m, 30s or 500ms")
    }
}

impl std::error::Error for MalformedSpan {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nothing_needs_no_unit() {
        let span = |text: &str| text.parse().map(|Span(span)| span.as_millis());
        assert_eq!(span("0"), Ok(0));
        assert_eq!(span("0s"), Ok(0));
        assert_eq!(span("1500ms"), Ok(1500));
        for wrong in ["", "10", "00", "-1s", "1.5s", "s", "1 s", "9999999999999999999d"] {
            assert_eq!(span(wrong), Err(MalformedSpan), "{wrong:?}");
        }
    }
}
