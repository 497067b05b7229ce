//! The routes of releases: transactions, groups, nodes.

use hyper::Method;

use crate::engine::Work;
use crate::http::auth::Scope;
use crate::http::routes::{BodyKind, Endpoint, Produces, Route};
use crate::limits::TRANSACTION_BODY_BYTES_MAX;

pub(super) const BEGIN: Route = Route {
    method: Method::POST,
    path: "/transactions",
    scope: Some(Scope::Submit),
    label: "transaction_begin",
    summary: "Create or delete a group on all partner nodes or on none",
    body: BodyKind::Json(TRANSACTION_BODY_BYTES_MAX),
    query: &[],
    produces: Produces::Json,
    work: Some(Work::Intake),
    endpoint: Endpoint::TransactionBegin,
};

/// The path by which programs from before Sillage call it.
pub(super) const BEGIN_DTC: Route = Route {
    path: "/dtc/",
    label: "transaction_begin_dtc",
    summary: "The same as POST /transactions",
    ..BEGIN
};

/// The same for those who leave the slash out.
pub(super) const BEGIN_DTC_BARE: Route =
    Route { path: "/dtc", label: "transaction_begin_dtc_bare", ..BEGIN_DTC };

pub(super) const LIST: Route = Route {
    method: Method::GET,
    path: "/transactions",
    scope: Some(Scope::Read),
    label: "transactions_list",
    summary: "Transactions in the order in which they were begun, page by page",
    body: BodyKind::None,
    query: &["state", "limit", "after"],
    produces: Produces::Json,
    work: None,
    endpoint: Endpoint::TransactionsList,
};

pub(super) const TRANSACTION: Route = Route {
    method: Method::GET,
    path: "/transactions/{id}",
    scope: Some(Scope::Read),
    label: "transaction_get",
    summary: "How one transaction stands, node by node",
    body: BodyKind::None,
    query: &[],
    produces: Produces::Json,
    work: None,
    endpoint: Endpoint::TransactionGet,
};

pub(super) const RETRY: Route = Route {
    method: Method::POST,
    path: "/transactions/{id}/retry",
    scope: Some(Scope::Submit),
    label: "transaction_retry",
    summary: "Try a transaction again at once, and anew if it has failed",
    body: BodyKind::None,
    query: &[],
    produces: Produces::Json,
    work: Some(Work::Settle),
    endpoint: Endpoint::TransactionRetry,
};

pub(super) const GROUP: Route = Route {
    method: Method::GET,
    path: "/groups/{id}",
    scope: Some(Scope::Read),
    label: "group_get",
    summary: "On which partner nodes a group is at this moment, and whether they agree",
    body: BodyKind::None,
    query: &[],
    produces: Produces::Json,
    work: None,
    endpoint: Endpoint::GroupGet,
};

pub(super) const NODES: Route = Route {
    method: Method::GET,
    path: "/nodes",
    scope: Some(Scope::Read),
    label: "nodes_list",
    summary: "How the partner nodes are doing",
    body: BodyKind::None,
    query: &[],
    produces: Produces::Json,
    work: None,
    endpoint: Endpoint::NodesList,
};
