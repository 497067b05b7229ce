//! What a server's own metrics say of its commits.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::cli::bench::connection::Connection;
use crate::cli::bench::target::Target;

/// Group commits so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Commits {
    count: f64,
    records: f64,
    sync_seconds: f64,
}

impl Commits {
    /// What the server has counted; `None` if it does not tell, or not us.
    pub(crate) async fn read(target: &Arc<Target>) -> Option<Commits> {
        let mut connection = Connection::open(target).await.ok()?;
        let text = String::from_utf8_lossy(connection.get("/metrics").await.ok()?).into_owned();
        Commits::parse(&text)
    }

    fn parse(text: &str) -> Option<Commits> {
        let value = |name: &str| -> Option<f64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line?.trim().parse().ok()
        };
        Some(Commits {
            count: value("sillage_sync_seconds_count")?,
            records: value("sillage_commit_records_sum")?,
            sync_seconds: value("sillage_sync_seconds_sum")?,
        })
    }

    /// What was counted since.
    pub(crate) fn since(self, before: Commits) -> Commits {
        Commits {
            count: self.count - before.count,
            records: self.records - before.records,
            sync_seconds: self.sync_seconds - before.sync_seconds,
        }
    }

    fn each(self, sum: f64) -> f64 {
        if self.count > 0.0 { sum / self.count } else { 0.0 }
    }

    /// As members of the report.
    pub(crate) fn json(self) -> Value {
        json!({
            "count": self.count,
            "records_each": self.each(self.records),
            "sync_us": self.each(self.sync_seconds) * 1e6,
        })
    }
}

impl std::fmt::Display for Commits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (records, us) = (self.each(self.records), self.each(self.sync_seconds) * 1e6);
        write!(f, "{} commits of {records:.1} records, synced in {us:.0} µs on average", self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_read_from_the_text_and_subtracted() {
        let text = |count, records| {
            format!(
                "# TYPE sillage_sync_seconds histogram\nsillage_sync_seconds_sum 0.5\n\
                 sillage_sync_seconds_count {count}\nsillage_commit_records_sum {records}.0\n"
            )
        };
        let before = Commits::parse(&text(10, 20)).unwrap();
        let between = Commits::parse(&text(30, 120)).unwrap().since(before);
        assert_eq!(between.to_string(), "20 commits of 5.0 records, synced in 0 µs on average");
        assert_eq!(Commits::parse("# nothing\n"), None);
    }
}
