//! What Linux tells of load and threads.

use std::fs;
use std::time::Duration;

/// The load averages of 1, 5 and 15 minutes, noted with every figure.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// Processor time of each thread of a process so far, by name; equal names are added up.
pub(crate) fn threads(pid: u32) -> Vec<(String, Duration)> {
    let mut spent: Vec<(String, Duration)> = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        // A thread may end between listing and reading: it has no more to say.
        let Ok(comm) = fs::read_to_string(task.path().join("comm")) else { continue };
        let schedule = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let ns = schedule.split_whitespace().next().and_then(|ns| ns.parse().ok());
        let (name, time) = (comm.trim(), Duration::from_nanos(ns.unwrap_or_default()));
        match spent.iter_mut().find(|(known, _)| known == name) {
            Some((_, total)) => *total += time,
            None => spent.push((name.to_owned(), time)),
        }
    }
    spent
}

/// What each thread spent between two readings.
pub(crate) fn spent_between(
    before: &[(String, Duration)],
    after: &[(String, Duration)],
) -> Vec<(String, Duration)> {
    let earlier = |name: &str| before.iter().find(|(known, _)| known == name);
    let spent = |(name, time): &(String, Duration)| {
        let start = earlier(name).map_or(Duration::ZERO, |(_, time)| *time);
        (name.clone(), time.saturating_sub(start))
    };
    after.iter().map(spent).collect()
}
