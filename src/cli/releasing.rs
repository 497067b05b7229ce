//! From configuration to the partner nodes.

use crate::cli::failure::Failure;
use crate::config::Config;
use crate::outbound::target::Target;
use crate::workers::courier::NodeSettings;

/// The nodes that are configured, maybe none.
pub(crate) fn of(config: &Config) -> Result<NodeSettings, Failure> {
    let nodes = config.nodes.iter().map(|url| Target::parse(url)).collect::<Result<_, _>>();
    Ok(NodeSettings {
        nodes: nodes.map_err(Failure::NodeUrl)?,
        deadline_ms: config.node_deadline_ms,
        heal_every_ms: config.heal_every_ms,
    })
}
