//! Servers as child processes: the real program, and the reference servers of this one.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::machine;
use super::reference::Reference;

/// Between two attempts to connect to a server that starts.
const NAP: Duration = Duration::from_micros(500);
/// A server that takes longer to start has failed.
const START_MAX: Duration = Duration::from_secs(60);

/// A running server. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// A reference server: this very program in another role.
    pub(crate) fn reference(reference: Reference) -> Server {
        let program = std::env::current_exe().expect("a running program has a path");
        let role = match reference {
            Reference::Bare => "bare",
            Reference::Ceiling => "ceiling",
        };
        let mut command = Command::new(program);
        command.args(["--serve", role]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("this program can be started");
        let stdout = child.stdout.take().expect("standard output is piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("the server tells its address");
        Server { child, address: line.trim().parse().expect("an address") }
    }

    /// The real program on a data directory, and the time from `exec` until it was ready.
    pub(crate) fn sillage(data: &Path) -> (Server, Duration) {
        Server::start(Path::new(env!("CARGO_BIN_EXE_sillage")), data)
    }

    /// A build of the program, as [`Server::sillage`].
    pub(crate) fn start(program: &Path, data: &Path) -> (Server, Duration) {
        let address = free_address();
        let events = data.with_extension("events");
        let events = fs::File::create(events).expect("a file beside the store can be made");
        let mut command = Command::new(program);
        command.arg("serve").arg("--data").arg(data);
        command.args(["--listen", &address.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(events);
        let began = Instant::now();
        let child = command.spawn().expect("the program can be started");
        let mut server = Server { child, address };
        while !is_ready(address) {
            assert!(began.elapsed() < START_MAX, "not ready after {START_MAX:?}");
            let ended = server.child.try_wait().expect("our own child can be waited for");
            assert_eq!(ended, None, "the server ended; see {}", data.display());
            std::thread::sleep(NAP);
        }
        (server, began.elapsed())
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Processor time of its threads so far.
    pub(crate) fn threads(&self) -> Vec<(String, Duration)> {
        machine::threads(self.child.id())
    }

    /// Its resident memory in MiB.
    pub(crate) fn resident_mib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or_default() / 1024
    }

    /// Asks it to end and waits until it has.
    pub(crate) fn terminate(mut self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).expect("our own child can be signalled");
        let status = self.child.wait().expect("our own child can be waited for");
        assert!(status.success(), "the server ended with {status}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already: then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that nobody listens on at the moment.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    listener.local_addr().expect("a bound socket has an address")
}

/// Whether the server says that it is ready. It binds before it recovers and accepts after, so
/// the question is asked once and answered when it can be.
fn is_ready(address: SocketAddr) -> bool {
    let ask = || -> io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer.starts_with(b"HTTP/1.1 200"))
    };
    ask().unwrap_or(false)
}
