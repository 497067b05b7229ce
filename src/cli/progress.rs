//! Progress bars: on a terminal only, on stderr, gone when the work is done.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressStyle};

const BYTES_OF: &str = "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {msg}, {eta} left";
const BYTES: &str = "{spinner} {bytes} {bytes_per_sec} {msg}";
const COUNTED_OF: &str = "{bar:30} {human_pos}/{human_len} formulas, {per_sec}, {eta} left";
const COUNTED: &str = "{spinner} {human_pos} formulas, {per_sec}";

/// A bar for this many bytes; `None` if nobody knows how many there will be. What is done beside
/// is shown as its message.
pub(crate) fn of_bytes(bytes: Option<u64>) -> ProgressBar {
    match bytes {
        Some(bytes) => styled(ProgressBar::new(bytes), BYTES_OF),
        None => styled(ProgressBar::new_spinner(), BYTES),
    }
}

/// A count of formulas; `None` if nobody knows how many there will be.
pub(crate) fn of_formulas(count: Option<u64>) -> ProgressBar {
    match count {
        Some(count) => styled(ProgressBar::new(count), COUNTED_OF),
        None => styled(ProgressBar::new_spinner(), COUNTED),
    }
}

fn styled(bar: ProgressBar, template: &'static str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    bar.with_style(ProgressStyle::with_template(template).expect("the templates are well formed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_well_formed() {
        for template in [BYTES_OF, BYTES, COUNTED_OF, COUNTED] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
