//! Servers as child processes: the real program on a directory that is removed afterwards, and
//! the reference servers, which are this program in another role.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::cli::bench::fault::Fault;
use crate::cli::bench::machine::{self, ThreadTimes};
use crate::cli::bench::reference::Reference;
use crate::cli::bench::target::Target;
use crate::limits::{BENCH_SETTLE_CHECK_MS, BENCH_SETTLE_MS_MAX, BENCH_START_MS_MAX};

/// How a server of our own is started.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    /// The program; this one, or a rival build of it.
    pub(crate) program: OsString,
    /// More arguments of `serve`.
    pub(crate) arguments: Vec<OsString>,
    /// Where its directory is made; the system's place for temporary files unless given.
    pub(crate) beside: Option<OsString>,
}

/// A running server. It is killed and its directory removed when this is dropped.
pub(crate) struct Server {
    child: Child,
    target: Arc<Target>,
    /// Removed after the child has ended, since fields are dropped after `drop`.
    directory: Option<TempDir>,
}

impl Server {
    /// The real program on a new store.
    pub(crate) fn sillage(recipe: &Recipe) -> Result<Server, Fault> {
        let mut named = tempfile::Builder::new();
        let named = named.prefix("sillage-bench-");
        let made = match &recipe.beside {
            Some(beside) => named.tempdir_in(beside),
            None => named.tempdir(),
        };
        let directory =
            made.map_err(|error| Fault::Child { what: "making a temporary directory", error })?;
        let mut command = command(&recipe.program);
        command.arg("serve").arg("--data").arg(directory.path().join("data"));
        command.args(["--listen", "127.0.0.1:0", "--log-format", "json"]);
        command.args(&recipe.arguments).stdout(Stdio::null()).stderr(Stdio::piped());
        let (child, address) = start(command, Stream::Stderr, address_of_event)?;
        let target = Arc::new(Target::at(address));
        Ok(Server { child, target, directory: Some(directory) })
    }

    /// A reference server.
    pub(crate) fn reference(reference: Reference) -> Result<Server, Fault> {
        let mut command = command(&this_program()?);
        let role = match reference {
            Reference::Bare => "bare",
            Reference::Ceiling => "ceiling",
        };
        command.args(["bench", "--reference-server", role]);
        command.stdout(Stdio::piped()).stderr(Stdio::inherit());
        let (child, address) = start(command, Stream::Stdout, |line| line.trim().parse().ok())?;
        Ok(Server { child, target: Arc::new(Target::at(address)), directory: None })
    }

    /// How it is asked.
    pub(crate) fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// Processor time of its threads so far.
    pub(crate) fn threads(&self) -> ThreadTimes {
        machine::threads(self.child.id())
    }

    /// Its resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        machine::resident_bytes(self.child.id())
    }

    /// Waits until it writes nothing by itself: a new store fills its first segments with zeros,
    /// which would be measured as the cost of the first requests.
    pub(crate) async fn settle(&self) {
        let mut written = u64::MAX;
        for _ in 0..BENCH_SETTLE_MS_MAX / BENCH_SETTLE_CHECK_MS {
            let now = machine::written_bytes(self.child.id());
            if now == written {
                return;
            }
            written = now;
            tokio::time::sleep(Duration::from_millis(BENCH_SETTLE_CHECK_MS)).await;
        }
    }

    /// Where its store is.
    pub(crate) fn directory(&self) -> Option<&Path> {
        self.directory.as_ref().map(TempDir::path)
    }

    /// Asks it to end and waits until it has: a server that cannot end well has not run well.
    pub(crate) fn terminate(mut self) -> Result<(), Fault> {
        let ended = || -> io::Result<_> {
            kill_process(Pid::from_child(&self.child), Signal::TERM)?;
            self.child.wait()
        }();
        let status = ended.map_err(|error| Fault::Child { what: "ending the server", error })?;
        if status.success() {
            return Ok(());
        }
        Err(Fault::ChildEnded { words: status.to_string() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already: then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The path of this program.
pub(crate) fn this_program() -> Result<OsString, Fault> {
    let path = std::env::current_exe();
    let path = path.map_err(|error| Fault::Child { what: "finding this program", error })?;
    Ok(path.into_os_string())
}

/// The program without settings from the environment, which are meant for another server.
fn command(program: &OsStr) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SILLAGE_") {
            command.env_remove(name);
        }
    }
    // Never written to. A reference server ends when it closes, and `serve` does not read it.
    command.stdin(Stdio::piped());
    command
}

/// Where a server tells its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Stdout,
    Stderr,
}

/// Starts the command and waits for the line with the address.
fn start(
    mut command: Command,
    stream: Stream,
    address_of: fn(&str) -> Option<SocketAddr>,
) -> Result<(Child, SocketAddr), Fault> {
    let failed = |error| Fault::Child { what: "starting a server", error };
    let mut child = command.spawn().map_err(failed)?;
    let stream: Box<dyn io::Read + Send> = match stream {
        Stream::Stdout => Box::new(child.stdout.take().expect("standard output is piped")),
        Stream::Stderr => Box::new(child.stderr.take().expect("standard error is piped")),
    };
    let (sender, lines) = channel();
    // Reads to the end, so that the server never waits for us; nobody listens after the address.
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    match await_address(&lines, address_of) {
        Ok(address) => Ok((child, address)),
        Err(fault) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(fault)
        }
    }
}

fn await_address(
    lines: &Receiver<String>,
    address_of: fn(&str) -> Option<SocketAddr>,
) -> Result<SocketAddr, Fault> {
    let mut words = "it said nothing".to_owned();
    loop {
        match lines.recv_timeout(Duration::from_millis(BENCH_START_MS_MAX)) {
            Ok(line) => match address_of(&line) {
                Some(address) => return Ok(address),
                None => words = line,
            },
            Err(RecvTimeoutError::Disconnected) => return Err(Fault::ChildEnded { words }),
            Err(RecvTimeoutError::Timeout) => {
                let error = io::ErrorKind::TimedOut.into();
                return Err(Fault::Child { what: "waiting for a server", error });
            }
        }
    }
}

/// The address in the event that says that a server listens, which comes after recovery.
fn address_of_event(line: &str) -> Option<SocketAddr> {
    let event: Value = serde_json::from_str(line).ok()?;
    let fields = event.get("fields").unwrap_or(&event);
    (fields["message"] == "listening").then(|| fields["address"].as_str()?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_that_says_where_is_recognised() {
        let address = "127.0.0.1:8080".parse().ok();
        for (line, expected) in [
            (r#"{"message":"listening","address":"127.0.0.1:8080"}"#, address),
            (r#"{"fields":{"message":"listening","address":"127.0.0.1:8080"}}"#, address),
            (r#"{"message":"closed"}"#, None),
            ("sillage: cannot listen", None),
        ] {
            assert_eq!(address_of_event(line), expected, "{line}");
        }
    }
}
