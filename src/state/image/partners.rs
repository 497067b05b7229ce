//! What an image holds since version 3: the transactions that are remembered, and the groups on
//! this server.
//!
//! ```text
//! head          Head
//! transactions  Head::transactions times (Lsn, Transaction)
//! groups        Head::groups times (GroupId, Group)
//! ```

use bincode::{Decode, Encode};

use super::{Image, ImageError, Source, put};
use crate::ids::{GroupId, Lsn};
use crate::limits::NODES_MAX;
use crate::state::groups::Group;
use crate::state::releases::{Node, Transaction};

/// How many entries follow.
#[derive(Encode, Decode)]
struct Head {
    transactions: u64,
    groups: u64,
}

/// Whether the image has anything that version 2 cannot say.
pub(super) fn are_there(image: &Image) -> bool {
    !image.releases.is_new() || !image.groups.is_new()
}

pub(super) fn encode(image: &Image, out: &mut Vec<u8>) {
    let head = Head {
        transactions: image.releases.transactions.len() as u64,
        groups: image.groups.groups.len() as u64,
    };
    put(out, &head);
    image.releases.transactions.iter().for_each(|entry| put(out, &entry));
    image.groups.groups.iter().for_each(|entry| put(out, &entry));
}

pub(super) fn decode(source: &mut Source<'_>, image: &mut Image) -> Result<(), ImageError> {
    let head: Head = source.take()?;
    for _ in 0..head.transactions {
        let (id, transaction): (Lsn, Transaction) = source.take()?;
        let releases = &mut image.releases;
        let has_nodes = transaction.nodes.len() == transaction.begun.nodes.len()
            && (1..=NODES_MAX).contains(&transaction.nodes.len())
            && transaction.nodes.iter().all(Node::is_consistent);
        let is_free =
            !transaction.phase.is_held() || releases.holder(&transaction.begun.group).is_none();
        source.check(id, has_nodes && is_free && releases.get(id).is_none())?;
        image.releases.put(id, transaction);
    }
    for _ in 0..head.groups {
        let (id, group): (GroupId, Group) = source.take()?;
        source.check(group.last, group.is_sound() && image.groups.get(&id).is_none())?;
        image.groups.put(id, group);
    }
    Ok(())
}
