//! What others send, made fit to be printed.

use crate::cli::retry::for_terminal;
use crate::limits::SIMULATE_SHOWN_CHARS;

/// As much of the text as fits on a line, fit for a terminal.
pub(super) fn shown(text: &str) -> String {
    let mut start: String = text.chars().take(SIMULATE_SHOWN_CHARS).collect();
    if start.len() < text.len() {
        start.push('…');
    }
    for_terminal(&start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_hostile_messages_stay_on_their_line() {
        assert_eq!(shown("a\nb\u{1b}[2J"), "a\\nb\\u{1b}[2J");
        let most = "ü".repeat(SIMULATE_SHOWN_CHARS);
        assert_eq!(shown(&most), most);
        assert_eq!(shown(&format!("{most}!")), format!("{most}…"));
    }
}
