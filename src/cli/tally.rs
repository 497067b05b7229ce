//! What became of many formulas, in one summary: `submit` and `import` speak alike.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use crate::limits::CLIENT_FAULTS_SHOWN;

/// What became of the formulas so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Stored now.
    pub(crate) new: u64,
    /// Stored before.
    pub(crate) duplicates: u64,
    /// Not stored.
    pub(crate) invalid: u64,
    /// The first `CLIENT_FAULTS_SHOWN` invalid ones: line and faults.
    faults: Vec<(u64, String)>,
}

impl Tally {
    /// Counts an invalid formula, and keeps what is wrong with it if it is one of the first.
    pub(crate) fn refuse(&mut self, line: u64, detail: impl FnOnce() -> String) {
        self.invalid += 1;
        if self.faults.len() < CLIENT_FAULTS_SHOWN {
            self.faults.push((line, detail()));
        }
    }

    /// Prints the summary of an input.
    ///
    /// # Errors
    /// If nobody reads it.
    pub(crate) fn print(&self, path: &Path, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}: {self}", path.display())?;
        for (line, detail) in &self.faults {
            writeln!(out, "  line {line}: {detail}")?;
        }
        let unshown = self.invalid - self.faults.len() as u64;
        if unshown > 0 {
            writeln!(out, "  and {unshown} more invalid ones")?;
        }
        Ok(())
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} new, {} duplicate, {} invalid", self.new, self.duplicates, self.invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_faults_are_kept_and_the_rest_are_counted() {
        let mut tally = Tally::default();
        for line in 1..=CLIENT_FAULTS_SHOWN as u64 + 2 {
            tally.refuse(line, || "broken".to_owned());
        }
        let mut out = Vec::new();
        tally.print(Path::new("x"), &mut out).expect("memory takes all");
        let text = String::from_utf8(out).expect("UTF-8");
        assert!(text.starts_with("x: 0 new, 0 duplicate, 12 invalid\n  line 1: broken\n"));
        assert!(text.ends_with("  line 10: broken\n  and 2 more invalid ones\n"), "{text}");
    }
}
