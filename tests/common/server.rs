//! The real program as a child process: started, watched, killed, started again.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::{Call, Client, PATIENCE};

/// Lines of the server's events kept for a failing test.
const TRANSCRIPT_LINES_MAX: usize = 400;

/// A data directory with the arguments of the servers that run on it.
///
/// The directory outlives its servers and is removed with the store.
#[derive(Debug)]
pub(crate) struct Store {
    directory: TempDir,
    arguments: Vec<String>,
}

impl Store {
    /// A directory that does not hold a store yet.
    pub(crate) fn new() -> Store {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let data = directory.path().join("data");
        let data = data.to_str().expect("temporary directories have plain names").to_owned();
        let plain = ["--segment-size", "1MiB", "--log-format", "json"].map(str::to_owned);
        let arguments = ["--data".to_owned(), data].into_iter().chain(plain).collect();
        Store { directory, arguments }
    }

    /// Nothing on disk: the server runs with `--ephemeral` and no directory of ours.
    pub(crate) fn ephemeral() -> Store {
        let store = Store::new();
        let arguments = ["--ephemeral", "--log-format", "json"].map(str::to_owned).into();
        Store { arguments, ..store }
    }

    /// A copy of this store's files, for damaging.
    pub(crate) fn copy(&self) -> Store {
        let copy = Store::new();
        copy_tree(&self.data(), &copy.data());
        copy
    }

    /// A copy of a running server's files as a crash could leave them: the log was written before
    /// whatever else tells how long it is, so it is copied again after that.
    pub(crate) fn copy_of_running(&self) -> Store {
        let copy = self.copy();
        copy_tree(&self.data().join("log"), &copy.data().join("log"));
        copy
    }

    /// With one more setting for each server to come, in place of the harness's own.
    pub(crate) fn with(mut self, arguments: &[&str]) -> Store {
        let given =
            self.arguments.iter().position(|flag| arguments.first() == Some(&flag.as_str()));
        if let Some(at) = given {
            self.arguments.drain(at..at + 2);
        }
        self.arguments.extend(arguments.iter().map(|&text| text.to_owned()));
        self
    }

    /// The data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A place for a test's other files.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A server on this store that is ready for requests.
    #[track_caller]
    pub(crate) fn serve(&self) -> Server {
        match self.try_serve() {
            Ok(server) => server,
            Err(finished) => panic!("the server did not start: {finished:?}"),
        }
    }

    /// A server on this store, or how it refused to start.
    pub(crate) fn try_serve(&self) -> Result<Server, Finished> {
        self.try_serve_at("127.0.0.1:0")
    }

    /// Like `try_serve`, on a given address.
    pub(crate) fn try_serve_at(&self, address: &str) -> Result<Server, Finished> {
        let mut command = sillage(["serve", "--listen", address]);
        command.args(&self.arguments);
        Server::start(command)
    }
}

/// How a program ended and what it said.
#[derive(Clone, Debug)]
pub(crate) struct Finished {
    /// The exit code; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    /// Standard error, without empty lines.
    pub(crate) stderr: Vec<String>,
}

/// A running server. Killed when dropped; its events are printed if the test failed.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    events: Mutex<Receiver<String>>,
    transcript: Arc<Mutex<VecDeque<String>>>,
}

impl Server {
    /// Starts the command and waits until it is ready for requests or ends.
    pub(crate) fn start(mut command: Command) -> Result<Server, Finished> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program can be started");
        let stderr = child.stderr.take().expect("stderr is piped");
        let transcript = Arc::new(Mutex::new(VecDeque::new()));
        let (sender, receiver) = mpsc::channel();
        let kept = Arc::clone(&transcript);
        std::thread::spawn(move || follow(stderr, &kept, &sender));
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let events = Mutex::new(receiver);
        let mut server = Server { child, address, events, transcript };
        match server.next_event("listening") {
            Some(event) => {
                let address = event["address"].as_str().expect("the event has an address");
                server.address = address.parse().expect("host and port");
                server.await_ready();
                Ok(server)
            }
            None => Err(server.finished()),
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// A new connection to it.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// Ends it as a power cut would: it gets no chance to tidy up.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("our own child can be killed");
        self.child.wait().expect("our own child can be waited for");
    }

    /// Asks it to end and waits until it has.
    pub(crate) fn terminate(mut self) -> Finished {
        kill_process(self.pid(), Signal::TERM).expect("our own child can be signalled");
        self.finished()
    }

    /// Waits for its end and gives what it said.
    pub(crate) fn finished(&mut self) -> Finished {
        while self.next_line(PATIENCE).is_some() {}
        let status = self.child.wait().expect("our own child can be waited for");
        let transcript = self.transcript.lock().expect("no panic holds this lock");
        Finished { code: status.code(), stderr: transcript.iter().cloned().collect() }
    }

    /// The fields of the next event with this message; `None` if the program ends before.
    pub(crate) fn next_event(&mut self, message: &str) -> Option<Value> {
        self.find_event(|fields| fields["message"] == message)
    }

    /// The fields of the next event for which `wanted` holds; `None` if the program ends before.
    pub(crate) fn find_event(&mut self, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        loop {
            let line = self.next_line(PATIENCE)?;
            let Ok(event) = serde_json::from_str::<Value>(&line) else {
                continue;
            };
            let fields = if event["fields"].is_object() { &event["fields"] } else { &event };
            if wanted(fields) {
                return Some(fields.clone());
            }
        }
    }

    /// Standard error so far, at most the latest `TRANSCRIPT_LINES_MAX` lines.
    pub(crate) fn transcript(&self) -> Vec<String> {
        self.transcript.lock().expect("no panic holds this lock").iter().cloned().collect()
    }

    fn next_line(&mut self, patience: Duration) -> Option<String> {
        match self.next_line_or_error(patience) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("the program neither speaks nor ends"),
        }
    }

    fn next_line_or_error(&mut self, patience: Duration) -> Result<String, RecvTimeoutError> {
        let events = self.events.get_mut().expect("no panic holds this lock");
        events.recv_timeout(patience)
    }

    /// Asks `/readyz` until it says yes; between two questions it waits for the server's events.
    fn await_ready(&mut self) {
        let began = Instant::now();
        let mut client = self.client();
        while !matches!(client.try_send(&Call::get("/readyz")), Ok(answer) if answer.status == 200)
        {
            assert!(began.elapsed() < PATIENCE, "not ready after {PATIENCE:?}");
            if let Err(RecvTimeoutError::Disconnected) =
                self.next_line_or_error(Duration::from_millis(5))
            {
                panic!("the server ended before it was ready: {:?}", self.finished());
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already: then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("---- events of the server ----\n{}", self.transcript().join("\n"));
        }
    }
}

/// The program with these arguments and no setting from the environment.
pub(crate) fn sillage<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sillage"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SILLAGE_") {
            command.env_remove(name);
        }
    }
    command.args(arguments);
    command
}

/// Runs the program to its end.
pub(crate) fn run<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Output {
    let mut command = sillage(arguments);
    command.stdin(Stdio::null()).output().expect("the program can be started")
}

fn follow(stderr: ChildStderr, kept: &Mutex<VecDeque<String>>, events: &Sender<String>) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        if line.trim().is_empty() {
            continue;
        }
        let mut transcript = kept.lock().expect("no panic holds this lock");
        if transcript.len() == TRANSCRIPT_LINES_MAX {
            transcript.pop_front();
        }
        transcript.push_back(line.clone());
        drop(transcript);
        // Nobody listens any more once the server is dropped; the pipe is still drained.
        let _ = events.send(line);
    }
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory can be made");
    for entry in std::fs::read_dir(from).expect("a data directory can be listed") {
        let entry = entry.expect("a data directory can be listed");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a file has a type").is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a file can be copied");
        }
    }
}
