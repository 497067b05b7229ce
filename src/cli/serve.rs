//! `sillage serve`: from configuration to an orderly end.
//!
//! The order matters. The port is bound before the store is touched, so that a second start by
//! mistake changes nothing. Nobody is accepted before recovery is through, so that no request
//! waits for it. At a signal, requests under way are answered before the log is closed.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use tempfile::TempDir;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tracing::{error, info, warn};

use crate::cli::failure::{Exit, Failure};
use crate::cli::reset;
use crate::cli::settings_args::{SettingArgs, unknown_variables};
use crate::cli::store::{HttpSettings, Recovered, Store, StoreSettings};
use crate::cli::{events, hooking, releasing, sealing, system};
use crate::config::Config;
use crate::formula::Rules;
use crate::http::auth::Tokens;
use crate::http::routes::NodeRole;
use crate::http::{self, KeyPolicy, Listener};
use crate::limits::FAILED_DRAIN_MS;
use crate::log::Damage;

/// Serves until a signal or a failure of the log.
pub(crate) fn run(arguments: &SettingArgs) -> Result<Exit, Failure> {
    let config = arguments.load()?.config;
    let tokens = config.tokens.as_deref().map(read_tokens).transpose()?;
    let sealing = sealing::of(&config)?;
    let nodes = releasing::of(&config)?;
    events::start(&config);
    for variable in unknown_variables() {
        warn!(variable, "this variable is no setting; `sillage config` shows all that are");
    }
    let address = config.listen;
    let cannot_listen = |error| Failure::Listen { address, error };
    let connections_max = system::connections_max()?;
    let listener = http::bind(address).map_err(cannot_listen)?;
    let address = listener.address();
    let hooking = hooking::of(&config, address)?;
    let place = Place::choose(&config)?;
    if config.reset && reset::clear_if_any(place.directory())? {
        warn!(data = %place.directory().display(), "cleared, as reset demands");
    }
    let store = open(&config, place.directory())?;
    let settings = HttpSettings {
        node_role: match config.serve_groups {
            true => NodeRole::Played,
            false => NodeRole::Off,
        },
        rules: Rules { concentration_max: config.concentration_max },
        key_policy: match config.require_idempotency_key {
            true => KeyPolicy::Required,
            false => KeyPolicy::Optional,
        },
        tokens,
        sealing,
        nodes,
        hooking,
        connections_max,
    };
    let end = system::runtime()?.block_on(async {
        // Before the line that says so: whoever reads it may send a signal at once. Until here
        // a signal simply ends the process, however long recovery takes.
        let mut signals = Signals::listen()?;
        announce(address, place.directory(), store.recovered());
        serve_until_end(&store, listener, settings, &mut signals).await
    })?;
    close(store, end, place)
}

/// Reads the file of tokens.
fn read_tokens(path: &Path) -> Result<Tokens, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::TokensUnreadable { path: path.to_owned(), error })?;
    Tokens::parse(path, &text).map_err(Failure::Tokens)
}

/// Where the store lives.
enum Place {
    Lasting(PathBuf),
    /// Removed when dropped.
    Temporary(TempDir),
}

impl Place {
    fn choose(config: &Config) -> Result<Place, Failure> {
        if !config.ephemeral {
            return Ok(Place::Lasting(config.data.clone()));
        }
        let made = tempfile::Builder::new().prefix("sillage-").tempdir();
        made.map(Place::Temporary)
            .map_err(|error| Failure::System { what: "making a temporary directory", error })
    }

    fn directory(&self) -> &Path {
        match self {
            Place::Lasting(directory) => directory,
            Place::Temporary(directory) => directory.path(),
        }
    }
}

/// Why the service ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It was asked to end.
    Signal,
    /// The log failed.
    LogFailed,
}

fn open(config: &Config, directory: &Path) -> Result<Store, Failure> {
    let settings = StoreSettings::of(config, system::fresh_seed()?);
    Store::open(directory, settings).map_err(Failure::of_store(directory))
}

/// The one line that a newcomer needs: where it is, what it found, what to try.
fn announce(address: SocketAddr, directory: &Path, recovered: &Recovered) {
    if recovered.quarantined_bytes > 0 {
        warn!(
            bytes = recovered.quarantined_bytes,
            "cut off a torn end that nobody was told of; a copy is in quarantine/"
        );
    }
    warn_of_what_is_left(address, recovered);
    info!(
        %address,
        data = %directory.display(),
        formulas = recovered.formulas,
        lsn = recovered.lsn.0,
        epoch = recovered.epoch.0,
        // A number, rounded to tenths: what collects events can compare and plot it.
        recovery_ms = (recovered.seconds * 10_000.0).round() / 10.0,
        r#try = %format_args!("curl http://{address}/formulas"),
        "listening"
    );
}

/// Tells of damage that cost nothing, but after which the next would: either is cured by one more
/// snapshot, which makes what is damaged or missing superfluous.
fn warn_of_what_is_left(address: SocketAddr, recovered: &Recovered) {
    let next = format!("curl -X POST http://{address}/admin/snapshot");
    if let Some(Damage { file, offset, fault, .. }) = &recovered.snapshot_fallback {
        let lsn = recovered.snapshot.0;
        warn!(
            %file, offset, %fault, stands_in_from_lsn = lsn, next,
            "the newest snapshot cannot be used; what is older, and the log, stand in for it: \
             nothing is lost, but there is nothing to fall back on; look to the disk, and take a \
             new snapshot; the damaged one is in quarantine/"
        );
    }
    if let Some(Damage { file, offset, fault, .. }) = &recovered.snapshot_older_damaged {
        warn!(
            %file, offset, %fault, next,
            "the older snapshot cannot be used: nothing is lost, but there is nothing to fall \
             back on should the newest be damaged; look to the disk, and take a new snapshot"
        );
    }
    if let Some(Damage { file, fault, .. }) = &recovered.covered_missing {
        warn!(
            %file, %fault, next,
            "a segment is gone that the snapshot covers: nothing is lost, but there is nothing to \
             fall back on should the snapshot be damaged; look to the disk, and take a new snapshot"
        );
    }
}

async fn serve_until_end(
    store: &Store,
    listener: Listener,
    settings: HttpSettings,
    signals: &mut Signals,
) -> Result<End, Failure> {
    let drain = Notify::new();
    let mut serving = pin!(store.serve(listener, settings, drain.notified()));
    let end = tokio::select! {
        served = &mut serving => return served.map(|()| End::Signal).map_err(cannot_serve),
        name = signals.next() => {
            info!(signal = name, "draining: requests under way are answered, none is accepted");
            End::Signal
        }
        () = store.failed() => {
            error!("the log failed: ending, since what the disk holds is unknown");
            End::LogFailed
        }
    };
    drain.notify_one();
    drain_to_the_end(serving, signals, end).await?;
    Ok(end)
}

/// Lets requests under way end, but not for ever: a second signal cuts them off, and a failed
/// log can only tell the waiting ones that their outcome is unknown.
async fn drain_to_the_end(
    serving: impl Future<Output = io::Result<()>>,
    signals: &mut Signals,
    end: End,
) -> Result<(), Failure> {
    let patience = async {
        match end {
            End::Signal => std::future::pending().await,
            End::LogFailed => tokio::time::sleep(Duration::from_millis(FAILED_DRAIN_MS)).await,
        }
    };
    tokio::select! {
        served = serving => served.map_err(cannot_serve)?,
        name = signals.next() => warn!(signal = name, "second signal: ending at once"),
        () = patience => warn!("ending with requests under way"),
    }
    Ok(())
}

fn cannot_serve(error: io::Error) -> Failure {
    Failure::System { what: "serving", error }
}

fn close(store: Store, end: End, place: Place) -> Result<Exit, Failure> {
    let directory = place.directory().to_owned();
    if end == End::LogFailed {
        return Err(Failure::LogFailed { directory });
    }
    let lsn = store.close(&directory).map_err(Failure::of_store(&directory))?;
    info!(lsn = lsn.0, "closed");
    if let Place::Temporary(directory) = place {
        let removed = directory.close();
        removed.map_err(|error| Failure::System { what: "removing the temporary store", error })?;
    }
    Ok(Exit::Success)
}

/// The signals that end the service.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Signals, Failure> {
        let listen = || -> io::Result<Signals> {
            let terminate = signal(SignalKind::terminate())?;
            Ok(Signals { terminate, interrupt: signal(SignalKind::interrupt())? })
        };
        listen().map_err(|error| Failure::System { what: "listening for signals", error })
    }

    /// Waits for the next one and gives its name.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
