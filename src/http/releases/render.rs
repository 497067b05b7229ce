//! The JSON of transactions.

use crate::engine::releases::{Node, Origin, Transaction};
use crate::http::render::{Object, array, formula_path, quoted, scalar};
use crate::ids::Lsn;

/// A transaction, node by node.
pub(super) fn transaction(id: Lsn, transaction: &Transaction) -> Vec<u8> {
    let mut json = Vec::new();
    row(&mut json, id, transaction);
    json
}

/// The same, among others.
pub(super) fn row(out: &mut Vec<u8>, id: Lsn, transaction: &Transaction) {
    let Transaction { begun, begun_at, changed_at, phase, tries, reason, nodes, .. } = transaction;
    let mut object = Object::open(out);
    quoted(object.member("id"), id);
    scalar(object.member("groupId"), begun.group.as_str());
    scalar(object.member("action"), begun.action.name());
    scalar(object.member("state"), phase.name());
    // As programs from before Sillage read it.
    scalar(object.member("State"), phase.name());
    if !reason.is_empty() {
        scalar(object.member("reason"), &**reason);
    }
    scalar(object.member("tries"), tries);
    quoted(object.member("begun_at"), begun_at);
    quoted(object.member("changed_at"), changed_at);
    array(object.member("nodes"), begun.nodes.iter().zip(nodes), |out, (url, it)| {
        node(out, url, it);
    });
    if let Origin::Flow { fingerprint, .. } | Origin::Withdrawal { fingerprint, .. } = &begun.origin
    {
        let path = object.member("formula");
        path.push(b'"');
        formula_path(path, fingerprint);
        path.push(b'"');
    }
    object.close();
}

fn node(out: &mut Vec<u8>, url: &str, node: &Node) {
    let mut object = Object::open(out);
    scalar(object.member("url"), url);
    scalar(object.member("outcome"), node.outcome().name());
    scalar(object.member("attempts"), &node.calls);
    scalar(object.member("last_error"), &node.last_error);
    object.close();
}
