//! A store that is open and served: recovery, engine and HTTP joined.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::cli::hooking;
use crate::cli::store_fault::StoreFault;
use crate::config::{Config, Flow};
use crate::engine::core::{CompactionPolicy, Setting};
use crate::engine::decide::Policy;
use crate::engine::open::open;
use crate::engine::{Engine, WriterThread};
use crate::formula::Rules;
use crate::http::auth::Tokens;
use crate::http::routes::{NodeRole, Served};
use crate::http::shutdown::Shutdown;
use crate::http::{self, Backups, Bounds, Context, KeyPolicy, Listener};
use crate::ids::{Epoch, Lsn};
use crate::limits::{HOOK_DRAIN_MS, SEAL_DRAIN_MS};
use crate::log::{Damage, Options, OsDisk, StoreId};
use crate::metrics::Metrics;
use crate::record::FlowStep;
use crate::time::{Stopwatch, SystemClock};
use crate::workers::announcer;
use crate::workers::courier::{NodeSettings, Releasing};
use crate::workers::hooker::{Hooker, Hooking};
use crate::workers::releaser::Releaser;
use crate::workers::sealer::Sealer;
use crate::workers::signatory::Sealing;

/// What configuration tells the engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoreSettings {
    pub(crate) policy: Policy,
    pub(crate) compaction: CompactionPolicy,
    pub(crate) segment_bytes: u64,
    /// Every random number that the service draws grows from it.
    pub(crate) seed: u64,
}

impl StoreSettings {
    /// What this configuration says; the seed is the caller's.
    pub(crate) fn of(config: &Config, seed: u64) -> StoreSettings {
        let policy = Policy {
            attempts_max: config.attempts_max,
            retention_ms: config.idempotency_retention_ms,
            flow: match config.flow {
                Flow::None => &[],
                Flow::Seal => &[FlowStep::Seal],
                Flow::Release => &[FlowStep::Release],
                Flow::SealRelease => &[FlowStep::Seal, FlowStep::Release],
            },
        };
        let ratio_percent = config.snapshot_ratio_percent;
        let compaction = CompactionPolicy { ratio_percent, ..CompactionPolicy::default() };
        StoreSettings { policy, compaction, segment_bytes: config.segment_bytes, seed }
    }
}

/// What configuration tells the HTTP service.
#[derive(Debug)]
pub(crate) struct HttpSettings {
    pub(crate) node_role: NodeRole,
    pub(crate) rules: Rules,
    pub(crate) key_policy: KeyPolicy,
    pub(crate) tokens: Option<Tokens>,
    /// Who seals; `None`: nobody.
    pub(crate) sealing: Option<Sealing>,
    /// Which partner nodes there are.
    pub(crate) nodes: NodeSettings,
    /// How hooks are called.
    pub(crate) hooking: Hooking,
    /// As many as there are descriptors for.
    pub(crate) connections_max: usize,
}

/// What recovery found.
#[derive(Clone, Debug)]
pub(crate) struct Recovered {
    /// Formulas stored and not withdrawn.
    pub(crate) formulas: usize,
    /// The last durable record.
    pub(crate) lsn: Lsn,
    /// The reign that has begun.
    pub(crate) epoch: Epoch,
    /// Bytes of a torn tail that were set aside.
    pub(crate) quarantined_bytes: u64,
    /// The snapshot that the start rests on; zero without one.
    pub(crate) snapshot: Lsn,
    /// The snapshot that could not be used, while an older one or the whole log could.
    pub(crate) snapshot_fallback: Option<Damage>,
    /// The older snapshot, if it could not stand in for the newest.
    pub(crate) snapshot_older_damaged: Option<Damage>,
    /// A segment that is gone while a snapshot covers it.
    pub(crate) covered_missing: Option<Damage>,
    /// How long recovery took.
    pub(crate) seconds: f64,
}

/// An open store.
pub(crate) struct Store {
    engine: Engine,
    writer: WriterThread,
    metrics: Arc<Metrics>,
    recovered: Recovered,
    random: fastrand::Rng,
}

impl Store {
    /// Locks, recovers and begins a reign.
    pub(crate) fn open(directory: &Path, settings: StoreSettings) -> Result<Store, StoreFault> {
        let watch = Stopwatch::start();
        let mut random = fastrand::Rng::with_seed(settings.seed);
        let disk =
            OsDisk::create(directory).map_err(|error| StoreFault::of_disk(directory, error))?;
        let store_if_new = StoreId(random.u128(..).to_le_bytes());
        let options =
            Options { segment_bytes: settings.segment_bytes, ..Options::new(store_if_new) };
        let clock = Arc::new(SystemClock::new());
        let StoreSettings { policy, compaction, .. } = settings;
        let setting = Setting { clock: clock.clone(), policy, compaction, seed: random.u64(..) };
        let (core, report) = open(Arc::new(disk), options, setting)
            .map_err(|error| StoreFault::of_open(directory, error))?;
        let metrics = Arc::new(Metrics::new());
        let started = Engine::start(core, clock, Arc::clone(&metrics));
        let (engine, writer) = started.map_err(|error| StoreFault::Io {
            verb: "start the threads that serve",
            path: directory.to_owned(),
            error,
        })?;
        let recovered = Recovered {
            formulas: engine.formula_count(),
            lsn: engine.durable_lsn(),
            epoch: engine.epoch(),
            quarantined_bytes: report.quarantined_bytes,
            snapshot: report.snapshot,
            snapshot_fallback: report.snapshot_fallback,
            snapshot_older_damaged: report.snapshot_older_damaged,
            covered_missing: report.covered_missing,
            seconds: watch.seconds(),
        };
        metrics.recovery_seconds.set(recovered.seconds);
        let alarms = [
            &recovered.snapshot_fallback,
            &recovered.snapshot_older_damaged,
            &recovered.covered_missing,
        ];
        let raised = alarms.into_iter().flatten().map(|_| 1).sum();
        metrics.recovery_alarms.set(raised);
        Ok(Store { engine, writer, metrics, recovered, random })
    }

    pub(crate) fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// A handle to its engine. The log is closed when the last one is gone.
    pub(crate) fn engine(&self) -> Engine {
        self.engine.clone()
    }

    /// Serves until `shutdown`, then drains.
    pub(crate) async fn serve(
        &self,
        listener: Listener,
        settings: HttpSettings,
        shutdown: impl Future<Output = ()>,
    ) -> std::io::Result<()> {
        let (trigger, signal) = Shutdown::new();
        let mut random = self.random.clone();
        let (releasing, node_health) =
            Releasing::over_http(&settings.nodes, &self.engine, &self.metrics);
        let mut working = self.start_workers(&settings, &releasing, &signal, &mut random);
        let context = Context {
            engine: self.engine.clone(),
            served: Served::new(settings.node_role),
            rules: settings.rules,
            key_policy: settings.key_policy,
            tokens: settings.tokens,
            metrics: Arc::clone(&self.metrics),
            shutdown: signal,
            sealing: settings.sealing,
            releasing,
            node_health,
            secrets: hooking::secrets(&settings.hooking),
            hook_attempts_max: settings.hooking.attempts_max,
            strangers: settings.hooking.client,
            bounds: Bounds { connections_max: settings.connections_max, ..Bounds::default() },
            backups: Backups::default(),
            id_seed: random.u64(..),
        };
        let serving = http::serve(listener, context);
        let pass_on = async {
            shutdown.await;
            trigger.advance();
            std::future::pending().await
        };
        let served = tokio::select! {
            served = serving => served,
            never = pass_on => never,
        };
        // They end by themselves when the server was told to; each holds the engine.
        let patience = Duration::from_millis(2 * SEAL_DRAIN_MS.max(HOOK_DRAIN_MS));
        if served.is_ok() {
            let ended = async { while working.join_next().await.is_some() {} };
            drop(tokio::time::timeout(patience, ended).await);
        }
        working.shutdown().await;
        served
    }

    /// The built-in workers that are configured, each as a task of its own.
    fn start_workers(
        &self,
        settings: &HttpSettings,
        releasing: &Releasing,
        signal: &Shutdown,
        random: &mut fastrand::Rng,
    ) -> JoinSet<()> {
        let mut working = JoinSet::new();
        let (engine, metrics) = (|| self.engine.clone(), || Arc::clone(&self.metrics));
        if let Some(sealing) = settings.sealing.clone() {
            let sealer = Sealer::new(engine(), sealing, metrics(), random.u64(..));
            let signal = signal.clone();
            working.spawn(async move { sealer.run(signal.draining()).await });
        }
        let hooker = Hooker::new(engine(), settings.hooking.clone(), metrics(), random.u64(..));
        // Also without nodes: there may be transactions of before, which name their own.
        let releaser = Releaser::new(engine(), releasing.clone(), metrics());
        let releases = signal.clone();
        working.spawn(async move { releaser.run(releases.draining()).await });
        let (engine, hooks, deaths) = (engine(), signal.clone(), signal.clone());
        working.spawn(async move { hooker.run(hooks.draining()).await });
        working.spawn(async move { announcer::run(engine, deaths.draining()).await });
        working
    }

    /// Completes when the log has failed.
    pub(crate) async fn failed(&self) {
        self.engine.failed().await;
    }

    /// Closes the log; gives the last durable LSN. All connections must be gone: each may hold
    /// the engine.
    pub(crate) fn close(self, directory: &Path) -> Result<Lsn, StoreFault> {
        let lsn = self.engine.durable_lsn();
        drop(self.engine);
        match self.writer.join() {
            Ok(closed) => closed.map_err(|error| StoreFault::of_log(directory, error))?,
            // The writer aborts the process rather than to unwind.
            Err(panic) => std::panic::resume_unwind(panic),
        }
        Ok(lsn)
    }
}
