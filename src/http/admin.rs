//! What the operator asks of a running store: a snapshot, a backup.
//!
//! A backup is read and sent by a thread of its own, which hands pieces over a short channel: so
//! the network thread never waits for the disk, and no more than the channel is in memory. A
//! client that does not read holds the thread up until the write deadline ends the connection;
//! then the channel closes, the thread ends, and what it kept from being removed is let go.

use std::convert::Infallible;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CACHE_CONTROL, CONTENT_DISPOSITION, HeaderValue};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::time::timeout;

use crate::engine::SnapshotReport;
use crate::http::Context;
use crate::http::archive::{Archive, TooManyFiles};
use crate::http::prefer;
use crate::http::problem::{Kind, Problem};
use crate::http::render::{self, Object};
use crate::http::request::Request;
use crate::http::response::Response;
use crate::ids::Lsn;
use crate::limits::{BACKUP_CHUNK_BYTES, BACKUP_CHUNKS_MAX, BACKUP_RETRY_AFTER_S, BACKUPS_MAX};
use crate::metrics::Metrics;

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/x-tar");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// The backups that are being sent: never more than `BACKUPS_MAX`.
#[derive(Debug)]
pub struct Backups(Arc<Semaphore>);

impl Default for Backups {
    fn default() -> Self {
        Backups(Arc::new(Semaphore::new(BACKUPS_MAX)))
    }
}

impl Backups {
    /// One more, for as long as its permit lives.
    fn begin(&self) -> Result<OwnedSemaphorePermit, TryAcquireError> {
        Arc::clone(&self.0).try_acquire_owned()
    }
}

/// `POST /admin/snapshot`: takes a snapshot and answers when it is in force. While one is being
/// taken, the answer is that of the next: it holds all that was acknowledged before the call.
/// Whoever prefers to wait no longer than so many seconds is told by then that it goes on.
pub(super) async fn snapshot(context: &Context, request: Request) -> Result<Response, Problem> {
    let Some(wait_s) = prefer::wait_s(request.headers()) else {
        return Ok(taken(context.engine.snapshot().await?));
    };
    let upto = context.engine.durable_lsn();
    let answer = timeout(Duration::from_secs(wait_s), context.engine.snapshot()).await;
    let response = match answer {
        Ok(report) => taken(report?),
        Err(_) => under_way(upto),
    };
    Ok(response.header(prefer::APPLIED, prefer::applied(wait_s)))
}

/// A snapshot of all up to `upto`, or more, is being taken.
fn under_way(upto: Lsn) -> Response {
    let mut json = Vec::new();
    let mut object = Object::open(&mut json);
    render::quoted(object.member("state"), "running");
    render::scalar(object.member("lsn_min"), &upto.0);
    object.close();
    Response::json(StatusCode::ACCEPTED, json)
}

fn taken(report: SnapshotReport) -> Response {
    let mut json = Vec::new();
    let mut object = Object::open(&mut json);
    render::scalar(object.member("lsn"), &report.lsn.0);
    render::scalar(object.member("formulas"), &report.formulas);
    render::scalar(object.member("bytes"), &report.bytes);
    render::seconds(object.member("took_s"), report.took_ms);
    object.close();
    Response::json(StatusCode::OK, json)
}

/// `GET /admin/backup`: a consistent copy of the store as a tar archive.
pub(super) async fn backup(context: &Context, _request: Request) -> Result<Response, Problem> {
    let permit = context.backups.begin().map_err(busy)?;
    let backup = context.engine.backup().await?;
    let name = format!("attachment; filename=\"sillage-{}-{}.tar\"", backup.store, backup.lsn);
    let archive = Archive::new(backup, context.engine.now()).map_err(too_many_files)?;
    let name = HeaderValue::try_from(name).expect("digits are a header's value");
    Ok(Response::new(StatusCode::OK)
        .stream(CONTENT_TYPE, Download::new(archive, permit, Arc::clone(&context.metrics)))
        .header(CONTENT_DISPOSITION, name)
        .header(CACHE_CONTROL, NO_STORE))
}

fn busy(_: TryAcquireError) -> Problem {
    let detail = format!("{BACKUPS_MAX} backups are being sent already");
    Problem::new(Kind::Overloaded, detail).retry_after(BACKUP_RETRY_AFTER_S)
}

fn too_many_files(_: TooManyFiles) -> Problem {
    let detail = "the log has too many segments for one archive; POST /admin/snapshot first";
    Problem::new(Kind::NotReady, detail)
}

/// An archive on its way: the body of a response.
struct Download {
    stage: Stage,
    /// Bytes that the client was promised and has not got.
    left: u64,
    metrics: Arc<Metrics>,
}

enum Stage {
    /// Nobody asked for the first byte yet. Whoever sends `HEAD` never does.
    Ready(Archive, OwnedSemaphorePermit),
    /// The thread writes.
    Running(Receiver<Bytes>),
    /// Nothing more comes.
    Ended,
}

impl Download {
    fn new(archive: Archive, permit: OwnedSemaphorePermit, metrics: Arc<Metrics>) -> Download {
        Download { left: archive.bytes(), stage: Stage::Ready(archive, permit), metrics }
    }

    /// Starts the thread, if this is the first time that a byte is asked for.
    fn start(&mut self) {
        if !matches!(self.stage, Stage::Ready(..)) {
            return;
        }
        let Stage::Ready(archive, permit) = std::mem::replace(&mut self.stage, Stage::Ended) else {
            return;
        };
        let (sender, receiver) = channel(BACKUP_CHUNKS_MAX);
        let metrics = Arc::clone(&self.metrics);
        let run = move || send(archive, Pieces { sender, piece: Vec::new() }, permit, &metrics);
        match thread::Builder::new().name("sillage-backup".into()).spawn(run) {
            Ok(_) => self.stage = Stage::Running(receiver),
            Err(error) => tracing::error!(%error, "no thread for a backup"),
        }
    }
}

/// What a backup kept from being removed is removed when it is let go, and that may take a while.
impl Drop for Download {
    fn drop(&mut self) {
        if let Stage::Ready(archive, permit) = std::mem::replace(&mut self.stage, Stage::Ended) {
            let let_go = move || drop((archive, permit));
            // Without a thread it is let go here, and everybody waits.
            let _thread = thread::Builder::new().name("sillage-backup".into()).spawn(let_go);
        }
    }
}

/// Writes the archive, and tells the operator how that ended.
fn send(archive: Archive, mut pieces: Pieces, permit: OwnedSemaphorePermit, metrics: &Metrics) {
    let bytes = archive.bytes();
    let written = archive.write(&mut pieces);
    // Before the last piece: a client that has all of its backup may ask for the next one.
    drop(permit);
    let sent = written.and_then(|()| pieces.flush());
    let counter = if sent.is_ok() { &metrics.backups } else { &metrics.backups_failed };
    counter.inc();
    match sent {
        Ok(()) => tracing::info!(bytes, "backup sent"),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {
            tracing::warn!("the client has left in the middle of a backup");
        }
        Err(error) => {
            let next = "stop the server, then `sillage check DIR`";
            tracing::error!(%error, next, "backup broken off");
        }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = Infallible;

    /// An end before `left` is zero makes hyper close the connection, so that the client sees
    /// that something is missing.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.start();
        let Stage::Running(receiver) = &mut self.stage else { return Poll::Ready(None) };
        let piece = ready!(receiver.poll_recv(cx));
        match &piece {
            Some(bytes) => self.left -= bytes.len() as u64,
            None => self.stage = Stage::Ended,
        }
        Poll::Ready(piece.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Download({} bytes left)", self.left)
    }
}

/// Gathers what is written into pieces and hands them over, waiting where the client is slower.
/// The last piece, however long, waits for a flush.
struct Pieces {
    sender: Sender<Bytes>,
    piece: Vec<u8>,
}

impl Pieces {
    fn hand_over(&mut self) -> io::Result<()> {
        let piece = std::mem::take(&mut self.piece);
        self.sender.blocking_send(piece.into()).map_err(|_| ErrorKind::BrokenPipe.into())
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.len() == BACKUP_CHUNK_BYTES {
            self.hand_over()?;
        }
        self.piece.reserve_exact(BACKUP_CHUNK_BYTES - self.piece.len());
        let taken = bytes.len().min(BACKUP_CHUNK_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() { Ok(()) } else { self.hand_over() }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::atomic::{AtomicU64, Ordering};

    use http_body_util::BodyExt as _;
    use serde_json::{Value, json};

    use super::*;
    use crate::engine::upkeep::{Backup, BackupFile};
    use crate::http::archive::tests::{archive, written};
    use crate::http::harness::{FIRST_SEQ, Server};
    use crate::ids::Epoch;
    use crate::time::Timestamp;

    fn download(archive: Archive) -> (Download, Arc<Semaphore>) {
        let permits = Arc::new(Semaphore::new(1));
        let permit = Arc::clone(&permits).try_acquire_owned().expect("nobody else has one");
        (Download::new(archive, permit, Arc::default()), permits)
    }

    fn sample() -> Archive {
        archive(&[("SUPER.a", &[1; 5000]), ("log/1.seg", &[2; 3 * BACKUP_CHUNK_BYTES])])
    }

    #[test]
    fn no_more_backups_are_begun_than_the_server_bears() {
        let backups = Backups::default();
        let begun: Vec<_> = (0..BACKUPS_MAX).map(|_| backups.begin().expect("a permit")).collect();
        assert_eq!(busy(backups.begin().expect_err("one too many")).status(), 503);
        drop(begun);
        assert!(backups.begin().is_ok());
    }

    #[tokio::test]
    async fn pieces_add_up_to_the_archive_and_to_the_length_announced() {
        let (download, permits) = download(sample());
        let expected = written(sample());
        assert_eq!(download.size_hint().exact(), Some(expected.len() as u64));
        let sent = download.collect().await.expect("it cannot fail").to_bytes();
        assert_eq!(sent, expected);
        assert_eq!(permits.available_permits(), 1, "who has all may begin the next");
    }

    #[tokio::test]
    async fn backups_are_counted_by_how_they_end() {
        let metrics = Arc::new(Metrics::new());
        let permits = Arc::new(Semaphore::new(2));
        let begin = |archive| {
            let permit = Arc::clone(&permits).try_acquire_owned().expect("a permit");
            Download::new(archive, permit, Arc::clone(&metrics))
        };
        let whole = begin(sample()).collect().await.expect("it cannot fail");
        assert!(!whole.to_bytes().is_empty());
        let mut left = begin(endless(&Arc::default()));
        drop(left.frame().await.expect("more comes"));
        drop(left);
        // The thread counts before it ends, and who leaves does not wait for it.
        while metrics.backups_failed.get() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!((metrics.backups.get(), metrics.backups_failed.get()), (1, 1));
    }

    /// Has a snapshot taken of one formula, with this preference.
    async fn preferring(server: &mut Server, preference: &str) -> (u16, String, Value) {
        let formula = r#"{"name":"a","materials":[{"name":"x","concentration":1}]}"#;
        assert_eq!(server.post("/formulas", formula).await.status, 201);
        let prefer = [("prefer", preference)];
        let answer = server.call("POST", "/admin/snapshot", &prefer, "").await;
        (answer.status, answer.header("preference-applied").to_owned(), answer.json())
    }

    // Paused time passes as soon as all wait, so that no snapshot is quick enough.
    #[tokio::test(start_paused = true)]
    async fn snapshot_that_takes_longer_than_the_client_prefers_goes_on_without_it() {
        let mut server = Server::start().await;
        let (status, applied, body) = preferring(&mut server, "wait=600").await;
        assert_eq!((status, applied.as_str()), (202, "wait=600"));
        assert_eq!((&body["state"], &body["lsn_min"]), (&json!("running"), &json!(FIRST_SEQ)));
        let done = server.post("/admin/snapshot", "").await;
        assert!(done.json()["lsn"].as_u64() >= Some(FIRST_SEQ), "{:?}", done.body);
        assert!(done.headers.get("preference-applied").is_none());
    }

    #[tokio::test]
    async fn snapshot_in_time_is_told_to_a_client_that_prefers_to_wait() {
        let mut server = Server::start().await;
        let (status, applied, body) = preferring(&mut server, "wait=600").await;
        assert_eq!((status, applied.as_str(), &body["formulas"]), (200, "wait=600", &json!(1)));
    }

    #[tokio::test]
    async fn backup_that_nobody_reads_is_let_go() {
        let (download, permits) = download(sample());
        assert!(matches!(download.stage, Stage::Ready(..)));
        drop(download);
        drop(permits.acquire().await.expect("it was let go"));
    }

    /// Zeros, counted as they are read.
    struct Zeros(Arc<AtomicU64>);

    impl Read for Zeros {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            buffer.fill(0);
            self.0.fetch_add(buffer.len() as u64, Ordering::Relaxed);
            Ok(buffer.len())
        }
    }

    fn of_file(file: BackupFile) -> Archive {
        let (store, files) = (String::new(), vec![file]);
        let backup = Backup { store, epoch: Epoch(1), lsn: Lsn(1), files };
        Archive::new(backup, Timestamp(0)).expect("one file")
    }

    fn endless(read: &Arc<AtomicU64>) -> Archive {
        let zeros = Zeros(Arc::clone(read));
        let open = move || Ok(Box::new(zeros) as Box<dyn Read + Send>);
        let (name, open) = ("log/1.seg".into(), Box::new(open));
        of_file(BackupFile { name, bytes: 1 << 50, sha256: None, open })
    }

    #[tokio::test]
    async fn slow_client_holds_the_disk_back_and_one_that_leaves_ends_it() {
        let read = Arc::new(AtomicU64::new(0));
        let (mut download, permits) = download(endless(&read));
        for taken in 1..=20 {
            let frame = download.frame().await.expect("more comes").expect("it cannot fail");
            assert_eq!(frame.into_data().expect("data").len(), BACKUP_CHUNK_BYTES);
            // Taken, in the channel, on its way there, in the writer's hand, and in the reader's.
            let bound = (taken + BACKUP_CHUNKS_MAX + 3) * BACKUP_CHUNK_BYTES;
            assert!(read.load(Ordering::Relaxed) <= bound as u64);
        }
        drop(download);
        drop(permits.acquire().await.expect("the thread has ended"));
    }

    #[tokio::test]
    async fn file_that_fails_ends_the_stream_before_its_length() {
        let open = || Err(ErrorKind::NotFound.into());
        let (name, open) = ("log/1.seg".into(), Box::new(open));
        let file = BackupFile { name, bytes: 9, sha256: None, open };
        let (mut download, _permits) = download(of_file(file));
        while let Some(frame) = download.frame().await {
            frame.expect("it cannot fail");
        }
        assert!(download.left > 0, "hyper closes the connection");
    }
}
