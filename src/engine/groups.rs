//! What can be asked of the engine about groups on this server, when it plays a node.

use crate::engine::Engine;
use crate::engine::command::Rejection;
pub use crate::engine::decide::groups::{GroupCall, GroupReply};
use crate::engine::decide::{Command, Reply};
use crate::engine::findings::Findings;
use crate::ids::GroupId;
pub use crate::record::releases::{Action, CallKey, Presence};
pub use crate::state::groups::Effect;

impl Engine {
    /// Creates or deletes a group here, unless it is so already.
    ///
    /// # Errors
    /// `CallLate`, `KeyReused`, `GroupsFull`, `Overloaded`, `DiskFull`, `OutcomeUnknown`.
    pub async fn change_group(&self, call: GroupCall) -> Result<GroupReply, Rejection> {
        let decided = self.execute(Command::ChangeGroup(call), Findings::default()).await?;
        match self.resolve(decided).await? {
            Reply::Group(reply) => Ok(reply),
            other => unreachable!("a call for a group is not answered by {other:?}"),
        }
    }

    /// Whether a group is here.
    ///
    /// # Errors
    /// `OutcomeUnknown`.
    pub async fn group_presence(&self, group: &GroupId) -> Result<Presence, Rejection> {
        self.ask(|state, _| state.groups().presence(group)).await
    }

    /// The groups that are here, in order of their names, behind `after`, at most `max`.
    ///
    /// # Errors
    /// `OutcomeUnknown`.
    pub async fn groups_here(
        &self,
        after: Option<&GroupId>,
        max: usize,
    ) -> Result<Vec<GroupId>, Rejection> {
        self.ask(|state, _| state.groups().after(after).take(max).cloned().collect()).await
    }
}
