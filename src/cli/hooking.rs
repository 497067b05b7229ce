//! From configuration to whoever calls hooks.

use std::net::SocketAddr;

use crate::cli::failure::Failure;
use crate::cli::system;
use crate::config::{Config, SecretText};
use crate::http::hooks::SecretSource;
use crate::outbound::backoff::Backoff;
use crate::outbound::client::Client;
use crate::outbound::signature::Secret;
use crate::outbound::tls::Tls;
use crate::outbound::vet::Vet;
use crate::workers::hooker::Hooking;

/// How hooks are called: public addresses and what the operator has opened, but never `own`,
/// which is this server itself, beyond its echo.
pub(crate) fn of(config: &Config, own: SocketAddr) -> Result<Hooking, Failure> {
    let parse = |SecretText(text): &SecretText| Secret::parse(text);
    let own_secret = config.webhook_secret.as_ref().map(parse).transpose();
    let vet = Vet::public(config.webhook_allow.clone(), vec![own]);
    Ok(Hooking {
        client: Client::new(vet, &Tls::public()),
        own_secret: own_secret.map_err(Failure::WebhookSecret)?,
        fresh_secret: system::fresh_secret()?,
        attempts_max: config.webhook_attempts_max,
        deadline_ms: config.webhook_deadline_ms,
        backoff: Backoff { base_ms: config.backoff_base_ms, cap_ms: config.backoff_cap_ms },
    })
}

/// Where the secrets of hooks come from.
pub(crate) fn secrets(hooking: &Hooking) -> SecretSource {
    SecretSource::new(|| system::fresh_secret().ok(), hooking.own_secret.clone())
}
