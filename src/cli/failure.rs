//! How the program ends: exit codes, and the one line that says why.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli::bench;
use crate::cli::copy_fault::CopyFault;
use crate::cli::http_client::CallError;
use crate::cli::input::InputError;
use crate::cli::simulate::BadNodes;
use crate::cli::store_fault::{Damage, Remedy, StoreFault};
use crate::config;
use crate::engine::command::Rejection;
use crate::http::auth::BadTokens;
use crate::outbound::authority_key::KeyFault;
use crate::outbound::signature::SecretFault;
use crate::outbound::target::UrlFault;

/// What the exit code tells the caller. Numbers of failures follow `sysexits.h`; below these, but
/// for `Usage`, are results that a script wants to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Success = 0,
    /// A transaction was rolled back: the nodes are as they were.
    RolledBack = 1,
    /// The command line, the configuration or the permission is wrong: change it.
    Usage = 2,
    /// It cannot be told yet: a transaction is not at an end, or a node does not answer.
    Unsettled = 3,
    /// A transaction has failed: nodes may differ until it is healed.
    Failed = 4,
    /// The nodes differ.
    Disagree = 5,
    /// Data is damaged or was refused: look at it.
    Data = 65,
    /// A disk, a network or the server failed: try again when it is mended.
    Io = 74,
    /// Another process holds the store: wait for it or end it.
    Locked = 75,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The configuration is refused.
    Config(config::Invalid),
    /// The file of tokens is refused.
    Tokens(BadTokens),
    /// The file of tokens cannot be read.
    TokensUnreadable { path: PathBuf, error: io::Error },
    /// The authority's public key cannot be read.
    PublicKeyUnreadable { path: PathBuf, error: io::Error },
    /// It cannot be used.
    PublicKey { path: PathBuf, fault: KeyFault },
    /// The authority's address cannot be called.
    SealUrl(UrlFault),
    /// The URL of a node cannot be called.
    NodeUrl(UrlFault),
    /// The secret of web hooks cannot be used.
    WebhookSecret(SecretFault),
    /// The address cannot be listened on.
    Listen { address: SocketAddr, error: io::Error },
    /// The store in the directory cannot be opened or read.
    Store { directory: PathBuf, fault: StoreFault },
    /// The directory holds something, but no store.
    NotAStore { directory: PathBuf },
    /// `reset` without `--yes`.
    NotConfirmed { directory: PathBuf },
    /// The log failed while the service ran.
    LogFailed { directory: PathBuf },
    /// The operating system refused something that is not the store's.
    System { what: &'static str, error: io::Error },
    /// A file to be read.
    Input { path: PathBuf, error: InputError },
    /// The standard output.
    Output(io::Error),
    /// The server's address is no plain HTTP address.
    BadUrl { url: String },
    /// The server could not be reached, or not understood.
    Call(CallError),
    /// The server refused the call.
    Refused { status: u16, detail: String },
    /// A file or directory to be written.
    Unwritable { path: PathBuf, error: io::Error },
    /// A copy of a store that was not made, or not put back.
    Copy(CopyFault),
    /// Simulated nodes cannot be as they are wanted.
    Nodes(BadNodes),
    /// A measurement ended without a result.
    Bench(bench::Fault),
}

impl Failure {
    /// The exit code that goes with it.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Failure::Config(_) | Failure::Tokens(_) | Failure::BadUrl { .. } => Exit::Usage,
            Failure::TokensUnreadable { .. } => Exit::Usage,
            Failure::PublicKeyUnreadable { .. } | Failure::PublicKey { .. } => Exit::Usage,
            Failure::SealUrl(_) | Failure::NodeUrl(_) | Failure::WebhookSecret(_) => Exit::Usage,
            Failure::Nodes(_) => Exit::Usage,
            Failure::NotAStore { .. } | Failure::NotConfirmed { .. } => Exit::Usage,
            Failure::Listen { .. } | Failure::LogFailed { .. } => Exit::Io,
            Failure::System { .. } | Failure::Output(_) | Failure::Call(_) => Exit::Io,
            Failure::Store { fault, .. } => fault.exit(),
            Failure::Input { error, .. } => match error {
                InputError::Unreadable(_) => Exit::Io,
                InputError::Malformed { .. } => Exit::Data,
            },
            Failure::Refused { status, .. } => exit_of_status(*status),
            Failure::Bench(fault) => match fault {
                bench::Fault::Refused { status, .. } => exit_of_status(*status),
                bench::Fault::Wrong { .. } | bench::Fault::NotHttp { .. } => Exit::Data,
                bench::Fault::Exhausted => Exit::Usage,
                _ => Exit::Io,
            },
            Failure::Unwritable { error, .. } => match error.kind() {
                io::ErrorKind::AlreadyExists | io::ErrorKind::IsADirectory => Exit::Usage,
                io::ErrorKind::WouldBlock => Exit::Locked,
                _ => Exit::Io,
            },
            Failure::Copy(fault) => fault.exit(),
        }
    }

    /// Whether it is only that nobody reads the output any more, as in `sillage list | head`.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Why the engine of the store in `directory` did not carry out a command of this program's,
    /// which nothing but the disk can keep it from.
    pub(crate) fn of_rejection(directory: &Path, rejection: Rejection) -> Failure {
        let fault = match rejection {
            Rejection::DiskFull => {
                let (path, error) = (directory.to_owned(), io::ErrorKind::StorageFull.into());
                StoreFault::Io { verb: "write to", path, error }
            }
            Rejection::Damaged(lsn) => {
                let what = "it cannot be read back unharmed".to_owned();
                StoreFault::Unreplayable { lsn, what }
            }
            _ => return Failure::LogFailed { directory: directory.to_owned() },
        };
        Failure::of_store(directory)(fault)
    }

    /// A fault of the store in `directory`.
    pub(crate) fn of_store(directory: &Path) -> impl FnOnce(StoreFault) -> Failure {
        move |fault| Failure::Store { directory: directory.to_owned(), fault }
    }
}

/// Whose turn it is after a refusal of the server.
fn exit_of_status(status: u16) -> Exit {
    match status {
        401 | 403 => Exit::Usage,
        400..500 => Exit::Data,
        _ => Exit::Io,
    }
}

impl StoreFault {
    /// Says it of the store at `place`.
    pub(crate) fn fmt_in(&self, f: &mut fmt::Formatter<'_>, place: &Path) -> fmt::Result {
        fmt_store(f, place, self)
    }

    fn exit(&self) -> Exit {
        match self {
            StoreFault::NoStore => Exit::Usage,
            StoreFault::Locked { .. } | StoreFault::Fenced => Exit::Locked,
            StoreFault::Damaged(_) | StoreFault::RangeTooSmall(_) => Exit::Data,
            StoreFault::NewerFormat { .. } | StoreFault::Unreplayable { .. } => Exit::Data,
            StoreFault::Io { .. } => Exit::Io,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Config(invalid) => invalid.fmt(f),
            Failure::Tokens(fault) => fault.fmt(f),
            Failure::TokensUnreadable { path, error } => {
                write!(f, "cannot read the tokens file {}: {error}", path.display())
            }
            Failure::PublicKeyUnreadable { path, error } => {
                write!(f, "--seal-public-key: cannot read {}: {error}", path.display())
            }
            Failure::PublicKey { path, fault } => {
                write!(f, "--seal-public-key: {}: {fault}", path.display())
            }
            Failure::SealUrl(fault) => write!(f, "--seal-url: {fault}"),
            Failure::NodeUrl(fault) => write!(f, "--nodes: {fault}"),
            Failure::WebhookSecret(fault) => write!(f, "--webhook-secret: {fault}"),
            Failure::Listen { address, error } => fmt_listen(f, *address, error),
            Failure::Store { directory, fault } => fmt_store(f, directory, fault),
            Failure::NotAStore { directory } => write!(
                f,
                "{} is not a Sillage store: it has other files, but no SUPER.a, SUPER.b or \
                 segments; nothing was changed",
                directory.display()
            ),
            Failure::NotConfirmed { directory } => write!(
                f,
                "reset removes every formula and message in {}; say --yes if that is meant",
                directory.display()
            ),
            Failure::LogFailed { directory } => write!(
                f,
                "the log in {} could not be written or synced: the service ends, since what \
                 the disk holds is unknown; look at the disk, then start again to recover",
                directory.display()
            ),
            Failure::System { what, error } => write!(f, "{what}: {error}"),
            Failure::Input { path, error: InputError::Unreadable(error) } => {
                write!(f, "cannot read {}: {error}", path.display())
            }
            Failure::Input { path, error } => write!(f, "{}: {error}", path.display()),
            Failure::Output(error) => write!(f, "standard output: {error}"),
            Failure::BadUrl { url } => write!(
                f,
                "`{url}` is not the address of a server such as http://127.0.0.1:8080 (https is \
                 not supported)"
            ),
            Failure::Call(error) => error.fmt(f),
            Failure::Refused { status, detail } => {
                write!(f, "the server answered {status}: {detail}")
            }
            Failure::Unwritable { path, error } => fmt_unwritable(f, path, error),
            Failure::Copy(fault) => fault.fmt(f),
            Failure::Bench(fault) => fault.fmt(f),
            Failure::Nodes(bad) => bad.fmt(f),
        }
    }
}

impl Error for Failure {}

fn fmt_unwritable(f: &mut fmt::Formatter<'_>, path: &Path, error: &io::Error) -> fmt::Result {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::AlreadyExists => {
            write!(f, "{path} exists and was left as it is; say --force to replace it")
        }
        io::ErrorKind::IsADirectory => write!(f, "{path} is a directory, and a file is needed"),
        io::ErrorKind::WouldBlock => write!(f, "{path}.part is being written by another process"),
        _ => write!(f, "cannot write {path}: {error}"),
    }
}

fn fmt_listen(f: &mut fmt::Formatter<'_>, address: SocketAddr, error: &io::Error) -> fmt::Result {
    if error.kind() == io::ErrorKind::AddrInUse {
        return write!(
            f,
            "cannot listen on {address}: the port is in use by another program; end that or \
             choose another one with --listen"
        );
    }
    write!(f, "cannot listen on {address}: {error}")
}

fn fmt_store(f: &mut fmt::Formatter<'_>, directory: &Path, fault: &StoreFault) -> fmt::Result {
    let directory = directory.display();
    match fault {
        StoreFault::NoStore => write!(f, "there is no Sillage store in {directory}"),
        StoreFault::Fenced => write!(
            f,
            "{directory} was opened by another process in spite of the lock; is it on a network \
             file system?"
        ),
        StoreFault::Locked { pid: Some(pid) } => {
            write!(f, "{directory} is in use by the process {pid}")
        }
        StoreFault::Locked { pid: None } => write!(f, "{directory} is in use by another process"),
        StoreFault::Damaged(damage) => fmt_damage(f, &directory.to_string(), damage),
        StoreFault::NewerFormat { file } => {
            write!(f, "{directory}: {file} was written by a newer version of Sillage, use that one")
        }
        StoreFault::RangeTooSmall(lsns) => {
            let (first, last) = (lsns.start(), lsns.end());
            write!(
                f,
                "{directory}: the damage reaches from LSN {first} to {last}, more than was \
                 accepted; nothing was changed"
            )
        }
        StoreFault::Unreplayable { lsn, what } => {
            write!(
                f,
                "{directory}: LSN {lsn} cannot be replayed: {what}; nothing was changed; start the \
                 version of Sillage that wrote it, or put back a copy"
            )
        }
        StoreFault::Io { verb, path, error } => {
            write!(f, "cannot {verb} {}: {error}", path.display())
        }
    }
}

/// The refusal report: what is damaged, what that means, and the commands to run next.
fn fmt_damage(f: &mut fmt::Formatter<'_>, directory: &str, damage: &Damage) -> fmt::Result {
    let Damage { file, offset, lsns, what, remedy } = damage;
    let (first, last) = (lsns.start(), lsns.end());
    writeln!(f, "{directory} is damaged: {file} at byte {offset}, LSN {first} to {last}: {what}")?;
    if *remedy == Remedy::SetAside {
        writeln!(f, "No record is lost by it: the store holds this twice, and it can be served.")?;
        write!(f, "Next:\n  sillage repair {directory}\n      ")?;
        write!(f, "moves it, and what is of no use without it, to quarantine/")?;
        return write!(f, "; then `sillage check {directory}` again");
    }
    writeln!(f, "Nothing was changed, and nothing is served. Next, one of:")?;
    writeln!(f, "  sillage check {directory}")?;
    writeln!(f, "      looks again and changes nothing")?;
    write!(f, "  put back a copy of the directory that is not damaged")?;
    match remedy {
        Remedy::Restore => write!(
            f,
            "\n      there is no repair: its parts are of different histories, perhaps because a \
             part\n      of a copy was put back, and no program can tell which of them is right"
        ),
        Remedy::AcceptLoss => {
            writeln!(f, "\n  sillage repair {directory} --accept-loss {first}..{last}")?;
            write!(f, "      keeps a copy and goes on WITHOUT what cannot be read of these records")
        }
        Remedy::AcceptTail => {
            writeln!(f, "\n  sillage repair {directory} --accept-tail")?;
            write!(f, "      keeps a copy and cuts off an end that may have been acknowledged")
        }
        Remedy::Backup => {
            write!(f, "\n      there is no repair: what the snapshots held is nowhere else")
        }
        Remedy::SetAside => Ok(()),
    }
}

impl From<config::Invalid> for Failure {
    fn from(invalid: config::Invalid) -> Failure {
        Failure::Config(invalid)
    }
}

impl From<BadTokens> for Failure {
    fn from(fault: BadTokens) -> Failure {
        Failure::Tokens(fault)
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Failure {
        Failure::Call(error)
    }
}

impl From<bench::Fault> for Failure {
    fn from(fault: bench::Fault) -> Failure {
        Failure::Bench(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Lsn;

    fn report(remedy: Remedy) -> String {
        let damage = Damage {
            file: "log/00000000000000000001.seg".to_owned(),
            offset: 4096,
            lsns: Lsn(17)..=Lsn(20),
            what: "a frame's payload is damaged".to_owned(),
            remedy,
        };
        let fault = StoreFault::Damaged(Box::new(damage));
        let failure = Failure::Store { directory: PathBuf::from("/srv/store"), fault };
        assert_eq!(failure.exit(), Exit::Data);
        failure.to_string()
    }

    #[test]
    fn damage_report_names_file_offset_range_and_next_commands() {
        let report = report(Remedy::AcceptLoss);
        for part in [
            "log/00000000000000000001.seg at byte 4096, LSN 17 to 20",
            "a frame's payload is damaged",
            "  sillage check /srv/store\n",
            "  sillage repair /srv/store --accept-loss 17..20\n",
        ] {
            assert!(report.contains(part), "{part} in {report}");
        }
    }

    #[test]
    fn undecidable_end_has_its_own_remedy() {
        let report = report(Remedy::AcceptTail);
        assert!(report.contains("  sillage repair /srv/store --accept-tail\n"), "{report}");
        assert!(!report.contains("--accept-loss"), "{report}");
    }

    #[test]
    fn damage_that_costs_nothing_is_sent_to_a_repair_that_gives_nothing_up() {
        let report = report(Remedy::SetAside);
        assert!(report.contains("  sillage repair /srv/store\n"), "{report}");
        assert!(!report.contains("--accept"), "{report}");
        assert!(!report.contains("nothing is served"), "{report}");
    }

    #[test]
    fn damage_that_repair_refuses_is_not_sent_to_repair() {
        let contradiction = crate::log::Damage {
            file: "SUPER.a".into(),
            offset: 0,
            lsns: Lsn(1)..=Lsn(9),
            fault: crate::log::Fault::SuperBehind,
        };
        assert_eq!(Damage::from(contradiction).remedy, Remedy::Restore);
        let report = report(Remedy::Restore);
        assert!(report.contains("put back a copy"), "{report}");
        assert!(!report.contains("sillage repair"), "{report}");
    }

    #[test]
    fn refusals_of_the_server_exit_by_whose_turn_it_is() {
        let exit = |status| Failure::Refused { status, detail: String::new() }.exit();
        assert_eq!(exit(401), Exit::Usage);
        assert_eq!(exit(403), Exit::Usage);
        assert_eq!(exit(404), Exit::Data);
        assert_eq!(exit(499), Exit::Data);
        assert_eq!(exit(503), Exit::Io);
    }
}
