//! What commands draw from the system: a runtime, a seed, descriptors.

use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::{Builder, Runtime};

use crate::cli::failure::Failure;
use crate::limits::{CONNECTIONS_MAX, DESCRIPTORS_RESERVED, HOOK_SECRET_MADE_BYTES, PARSE_THREADS};

/// A runtime on the calling thread, with a thread beside it for what would hold that one up.
pub(crate) fn runtime() -> Result<Runtime, Failure> {
    let built =
        Builder::new_current_thread().enable_all().max_blocking_threads(PARSE_THREADS).build();
    built.map_err(|error| Failure::System { what: "starting the runtime", error })
}

/// How many connections the process may hold open, so that the log never wants for descriptors.
///
/// The soft limit, often 1024, is raised first, as far as all connections need and the hard
/// limit allows.
pub(crate) fn connections_max() -> Result<usize, Failure> {
    let failed = |error: io::Error| {
        let what = "reserving file descriptors for the log (`ulimit -n` is too low)";
        Failure::System { what, error }
    };
    let wanted = (CONNECTIONS_MAX + DESCRIPTORS_RESERVED) as u64;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let allowed = maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let raised = current.map_or(wanted, |current| current.max(allowed));
    if current.is_some_and(|current| current < raised) {
        let limit = Rlimit { current: Some(raised), maximum };
        setrlimit(Resource::Nofile, limit).map_err(|errno| failed(errno.into()))?;
    }
    let descriptors = usize::try_from(raised).unwrap_or(usize::MAX);
    match descriptors.saturating_sub(DESCRIPTORS_RESERVED) {
        0 => Err(failed(Errno::MFILE.into())),
        left => Ok(left.min(CONNECTIONS_MAX)),
    }
}

/// A secret that nobody can guess.
#[allow(clippy::disallowed_methods, reason = "the one door to randomness")]
pub(crate) fn fresh_secret() -> Result<[u8; HOOK_SECRET_MADE_BYTES], Failure> {
    let what = "asking the system for randomness";
    let mut bytes = [0; HOOK_SECRET_MADE_BYTES];
    let drawn = getrandom::fill(&mut bytes);
    drawn.map_err(|error| Failure::System { what, error: io::Error::from(error) })?;
    Ok(bytes)
}

/// A seed that nobody can guess. Every random number of the process grows from one.
#[allow(clippy::disallowed_methods, reason = "the one door to randomness")]
pub(crate) fn fresh_seed() -> Result<u64, Failure> {
    let what = "asking the system for randomness";
    getrandom::u64().map_err(|error| Failure::System { what, error: io::Error::from(error) })
}
