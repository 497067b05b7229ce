//! The same promises on real files, sampled: flips, cuts, zeroed blocks, a torn batch.

mod log_support;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use log_support::{damage, open_with, options, payload, records};
use sillage::ids::Lsn;
use sillage::log::{Disk, Kind, OsDisk};

fn disk(dir: &Path) -> Arc<dyn Disk> {
    Arc::new(OsDisk::open(dir).expect("a directory"))
}

/// A store in `dir`, killed after its idle mark.
fn build(dir: &Path) -> Vec<(Lsn, Vec<u8>)> {
    let mut written = Vec::new();
    for reign in 0..3 {
        let (opened, _) = open_with(&disk(dir), options()).expect("opens");
        let mut log = opened.begin(b"opened").expect("begins");
        for n in 0..120 {
            let bytes = payload(reign * 1000 + n, 800);
            written.push((log.append(Kind::Record, &bytes).expect("appended"), bytes));
        }
        log.mark().expect("marked");
    }
    written
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.join("log")).expect("created");
    std::fs::create_dir_all(to.join("quarantine")).expect("created");
    for dir in ["", "log"] {
        for found in std::fs::read_dir(from.join(dir)).expect("listed") {
            let path = found.expect("an entry").path();
            if path.is_file() {
                let name = path.file_name().expect("a name");
                std::fs::copy(&path, to.join(dir).join(name)).expect("copied");
            }
        }
    }
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let found = std::fs::read_dir(dir.join("log")).expect("listed");
    let paths = found.map(|found| found.expect("an entry").path());
    paths.filter(|path| path.extension().is_some_and(|ext| ext == "seg")).collect()
}

fn used(path: &Path) -> u64 {
    let bytes = std::fs::read(path).expect("read");
    bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last as u64 + 1)
}

#[test]
fn sampled_damage_to_real_files_is_delivered_or_refused() {
    let seed = std::env::var("SILLAGE_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    let mut rng = fastrand::Rng::with_seed(seed);
    let whole = tempfile::tempdir().expect("a directory");
    let written = build(whole.path());
    for n in 0..60 {
        let what = format!("seed {seed}, damage {n}");
        let dir = tempfile::tempdir().expect("a directory");
        copy(whole.path(), dir.path());
        let all = segments(dir.path());
        let victim = &all[rng.usize(..all.len())];
        let at = rng.u64(..used(victim));
        let file = OpenOptions::new().read(true).write(true).open(victim).expect("opened");
        match n % 3 {
            0 => {
                let mut byte = [0];
                file.read_exact_at(&mut byte, at).expect("read");
                file.write_all_at(&[byte[0] ^ (1 << rng.u8(..8))], at).expect("written");
            }
            1 => file.set_len(at).expect("cut"),
            // Not in the header's zeros, where zeros change nothing.
            _ => file.write_all_at(&[0; 512], (at - at % 512).max(4096)).expect("written"),
        }
        let Err(refusal) = open_with(&disk(dir.path()), options()) else {
            panic!("{what}: not noticed");
        };
        let (named, _, lsns) = damage(&refusal);
        assert!(victim.ends_with(&named), "{what}: {refusal}");
        assert!(lsns.start() <= lsns.end(), "{what}");
        let Err(again) = open_with(&disk(dir.path()), options()) else {
            panic!("{what}: refused once, opened then");
        };
        assert_eq!(damage(&again), damage(&refusal), "{what}");
    }
    let (_, delivered) = open_with(&disk(whole.path()), options()).expect("opens");
    assert_eq!(records(&delivered), written);
}

#[test]
fn torn_last_batch_on_real_files_is_set_aside() {
    let dir = tempfile::tempdir().expect("a directory");
    let written = build(dir.path());
    let path = segments(dir.path()).into_iter().max().expect("segments");
    let end = used(&path);
    let frames = {
        // What the next batch would have looked like: take it from a copy that goes on. The
        // copy seals this segment, so its next frame stands at the same place.
        let other = tempfile::tempdir().expect("a directory");
        copy(dir.path(), other.path());
        let (opened, _) = open_with(&disk(other.path()), options()).expect("opens");
        drop(opened.begin(b"opened").expect("begins"));
        let name = path.file_name().expect("a name");
        std::fs::read(other.path().join("log").join(name)).expect("read")
    };
    let torn = &frames[usize::try_from(end).expect("small")..frames.len() - 3];
    let file = OpenOptions::new().write(true).open(&path).expect("opened");
    file.write_all_at(torn, end).expect("written");
    let (opened, delivered) = open_with(&disk(dir.path()), options()).expect("opens");
    assert_eq!(records(&delivered), written);
    assert!(opened.report().quarantined_bytes > 0);
    drop(opened.begin(b"opened").expect("begins"));
    let kept = std::fs::read_dir(dir.path().join("quarantine")).expect("listed").count();
    assert_eq!(kept, 1);
    let (opened, _) = open_with(&disk(dir.path()), options()).expect("opens");
    assert_eq!(opened.report().quarantined_bytes, 0);
}
