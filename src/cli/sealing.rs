//! From configuration to whoever seals.

use std::sync::Arc;

use crate::cli::failure::Failure;
use crate::config::{Config, SealMode, SecretText};
use crate::engine::decide::gate::{Limit, Mode};
use crate::outbound::authority::Authority;
use crate::outbound::authority_key::AuthorityKey;
use crate::outbound::backoff::Backoff;
use crate::outbound::client::Client;
use crate::outbound::target::Target;
use crate::outbound::tls::Tls;
use crate::outbound::vet::Vet;
use crate::workers::signatory::Sealing;

/// The authority that is configured, if one is.
pub(crate) fn of(config: &Config) -> Result<Option<Sealing>, Failure> {
    let (Some(url), Some(SecretText(key))) = (&config.seal_url, &config.seal_key) else {
        return Ok(None);
    };
    let url = Target::parse(url).map_err(Failure::SealUrl)?;
    let key = key.parse().expect("the configuration has checked it");
    // The operator named it, so it may be anywhere.
    let client = Client::new(Vet::none(), &Tls::public());
    let deadline_ms = config.seal_deadline_ms;
    let authority = Authority::new(client, url, key, public_key(config)?, deadline_ms);
    let mode = match config.seal_mode {
        SealMode::Window => Mode::Window,
        SealMode::Paced => Mode::Paced,
    };
    let rate = config.seal_rate;
    Ok(Some(Sealing {
        signatory: Arc::new(authority),
        limit: Limit { calls: rate.calls, window_ms: rate.window_ms, mode },
        deadline_ms,
        attempts_max: config.seal_attempts_max,
        backoff: Backoff { base_ms: config.backoff_base_ms, cap_ms: config.backoff_cap_ms },
    }))
}

fn public_key(config: &Config) -> Result<Option<AuthorityKey>, Failure> {
    let Some(path) = &config.seal_public_key else { return Ok(None) };
    let unreadable = |error| Failure::PublicKeyUnreadable { path: path.clone(), error };
    let pem = std::fs::read(path).map_err(unreadable)?;
    let wrong = |fault| Failure::PublicKey { path: path.clone(), fault };
    AuthorityKey::from_pem(&pem).map(Some).map_err(wrong)
}
