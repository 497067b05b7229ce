//! What Linux tells of load, threads, memory and file systems.

use std::fs;
use std::path::Path;
use std::time::Duration;

/// The `f_type` of a file system in memory (`statfs(2)`).
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// Processor time by thread; threads with equal names are added up.
pub type ThreadTimes = Vec<(String, Duration)>;

/// The load averages of 1, 5 and 15 minutes, noted with every figure.
#[must_use]
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// Whether the files of this directory are in memory, so that a sync costs nothing.
#[must_use]
pub fn is_in_memory(directory: &Path) -> bool {
    rustix::fs::statfs(directory).is_ok_and(|found| found.f_type == TMPFS_MAGIC)
}

/// Resident memory of a process in bytes; 0 when it cannot be read.
#[must_use]
pub fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

/// Bytes that a process has written to files so far; 0 when it cannot be read.
#[must_use]
pub fn written_bytes(pid: u32) -> u64 {
    let counts = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let line = counts.lines().find_map(|line| line.strip_prefix("write_bytes:"));
    line.and_then(|rest| rest.trim().parse().ok()).unwrap_or_default()
}

/// Processor time of each thread of a process so far.
#[must_use]
pub fn threads(pid: u32) -> ThreadTimes {
    let mut spent = ThreadTimes::new();
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
#[must_use]
pub fn spent_between(before: &ThreadTimes, after: &ThreadTimes) -> ThreadTimes {
    let earlier = |name: &str| before.iter().find(|(known, _)| known == name);
    let spent = |(name, time): &(String, Duration)| {
        let start = earlier(name).map_or(Duration::ZERO, |(_, time)| *time);
        (name.clone(), time.saturating_sub(start))
    };
    after.iter().map(spent).collect()
}
