//! The table of routes, and all that follows from it: router, `Allow`, labels, scopes.

mod node;
mod table;

use std::borrow::Cow;

use hyper::Method;
use hyper::header::HeaderValue;

pub use node::NODE_ROUTES;
pub use table::ROUTES;

use crate::engine::Work;
use crate::http::auth::Scope;
use crate::http::problem::Problem;
use crate::http::request::Request;
use crate::http::response::Response;
use crate::http::{
    Context, admin, formulas, groups, hooks, nodes, operating, queues, releases, seals,
};

/// One call of the API.
#[derive(Debug)]
pub struct Route {
    /// The method. `HEAD` is served wherever `GET` is.
    pub method: Method,
    /// The path; a segment `{name}` stands for any one segment.
    pub path: &'static str,
    /// The scope that a token needs; `None`: open to all.
    pub scope: Option<Scope>,
    /// Its name in metrics, events and the API's description.
    pub label: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// The body it takes.
    pub body: BodyKind,
    /// The query parameters it takes.
    pub query: &'static [&'static str],
    /// What it answers with when all is well.
    pub produces: Produces,
    /// The work it makes for the engine, by which it is refused before its body is read.
    pub work: Option<Work>,
    /// What runs.
    pub endpoint: Endpoint,
}

/// What body a route takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// None; one that is sent nevertheless is ignored.
    None,
    /// JSON of at most so many bytes; may be left out.
    OptionalJson(usize),
    /// JSON of at most so many bytes.
    Json(usize),
    /// JSON of at most so many bytes, or an NDJSON stream without an end.
    JsonOrNdjson(usize),
}

/// What media type a success has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Produces {
    /// `application/json`.
    Json,
    /// `application/json`, or `application/x-ndjson` if the body was.
    JsonOrNdjson,
    /// `text/plain`.
    Text,
    /// `text/html`.
    Html,
    /// `application/x-tar`.
    Tar,
}

/// What runs for a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is documented by its route's summary")]
pub enum Endpoint {
    FormulasSubmit,
    FormulasCheck,
    FormulasList,
    FormulaGet,
    FormulaTrail,
    FormulaWithdraw,
    QueuesList,
    QueueStatus,
    QueueLease,
    QueueAck,
    QueueNack,
    QueueExtend,
    QueueMessages,
    QueueRedrive,
    QueuePurge,
    Index,
    Livez,
    Readyz,
    Version,
    Metrics,
    SealQuery,
    SealBody,
    SealStanding,
    SealVerify,
    SealProbe,
    SealTestWebhook,
    HookCreate,
    HooksList,
    HookOwnSecret,
    HookDeliveries,
    HookDelivery,
    HookRedeliver,
    HookGet,
    HookDelete,
    HookPing,
    HookSecret,
    NodeGroupCreate,
    NodeGroupDelete,
    NodeGroupGet,
    NodeGroupsList,
    TransactionBegin,
    TransactionsList,
    TransactionGet,
    TransactionRetry,
    GroupGet,
    NodesList,
    AdminSnapshot,
    AdminBackup,
    Problems,
    Problem,
}

impl Endpoint {
    /// Runs the handler.
    ///
    /// A future is as large as the largest that it may await, and is moved several times before
    /// it runs. So all but those of the two hottest calls are boxed.
    ///
    /// # Errors
    /// The problem to answer with.
    pub(crate) async fn call(
        self,
        context: &Context,
        request: Request,
    ) -> Result<Response, Problem> {
        match self {
            Endpoint::FormulasSubmit => formulas::submit(context, request).await,
            Endpoint::FormulasCheck => Box::pin(formulas::check(context, request)).await,
            Endpoint::FormulasList => Box::pin(formulas::list(context, request)).await,
            Endpoint::FormulaGet => formulas::get(context, request).await,
            Endpoint::FormulaTrail => Box::pin(formulas::trail(context, request)).await,
            Endpoint::FormulaWithdraw => Box::pin(formulas::withdraw(context, request)).await,
            Endpoint::QueuesList => Box::pin(queues::list(context, request)).await,
            Endpoint::QueueStatus => Box::pin(queues::status(context, request)).await,
            Endpoint::QueueLease => Box::pin(queues::lease(context, request)).await,
            Endpoint::QueueAck => Box::pin(queues::ack(context, request)).await,
            Endpoint::QueueNack => Box::pin(queues::nack(context, request)).await,
            Endpoint::QueueExtend => Box::pin(queues::extend(context, request)).await,
            Endpoint::QueueMessages => Box::pin(queues::messages(context, request)).await,
            Endpoint::QueueRedrive => Box::pin(queues::redrive(context, request)).await,
            Endpoint::QueuePurge => Box::pin(queues::purge(context, request)).await,
            Endpoint::Index => Box::pin(operating::index(context, request)).await,
            Endpoint::Livez => Box::pin(operating::livez(context, request)).await,
            Endpoint::Readyz => Box::pin(operating::readyz(context, request)).await,
            Endpoint::Version => Box::pin(operating::version(context, request)).await,
            Endpoint::Metrics => Box::pin(operating::metrics(context, request)).await,
            Endpoint::SealQuery => Box::pin(seals::sign_query(context, request)).await,
            Endpoint::SealBody => Box::pin(seals::sign_body(context, request)).await,
            Endpoint::SealStanding => Box::pin(seals::standing(context, request)).await,
            Endpoint::SealVerify => Box::pin(seals::verify(context, request)).await,
            Endpoint::SealProbe => Box::pin(seals::probe(context, request)).await,
            Endpoint::SealTestWebhook => Box::pin(seals::test_webhook(context, request)).await,
            Endpoint::HookCreate => Box::pin(hooks::create(context, request)).await,
            Endpoint::HooksList => Box::pin(hooks::list(context, request)).await,
            Endpoint::HookOwnSecret => Box::pin(hooks::own_secret(context, request)).await,
            Endpoint::HookDeliveries => Box::pin(hooks::deliveries(context, request)).await,
            Endpoint::HookDelivery => Box::pin(hooks::delivery(context, request)).await,
            Endpoint::HookRedeliver => Box::pin(hooks::redeliver(context, request)).await,
            Endpoint::HookGet => Box::pin(hooks::get(context, request)).await,
            Endpoint::HookDelete => Box::pin(hooks::delete(context, request)).await,
            Endpoint::HookPing => Box::pin(hooks::ping(context, request)).await,
            Endpoint::HookSecret => Box::pin(hooks::rotate(context, request)).await,
            Endpoint::NodeGroupCreate => Box::pin(groups::create(context, request)).await,
            Endpoint::NodeGroupDelete => Box::pin(groups::delete(context, request)).await,
            Endpoint::NodeGroupGet => Box::pin(groups::get(context, request)).await,
            Endpoint::NodeGroupsList => Box::pin(groups::list(context, request)).await,
            Endpoint::TransactionBegin => Box::pin(releases::begin(context, request)).await,
            Endpoint::TransactionsList => Box::pin(releases::list(context, request)).await,
            Endpoint::TransactionGet => Box::pin(releases::get(context, request)).await,
            Endpoint::TransactionRetry => Box::pin(releases::retry(context, request)).await,
            Endpoint::GroupGet => Box::pin(nodes::group(context, request)).await,
            Endpoint::NodesList => Box::pin(nodes::list(context, request)).await,
            Endpoint::AdminSnapshot => Box::pin(admin::snapshot(context, request)).await,
            Endpoint::AdminBackup => Box::pin(admin::backup(context, request)).await,
            Endpoint::Problems => Box::pin(operating::problems(context, request)).await,
            Endpoint::Problem => Box::pin(operating::problem(context, request)).await,
        }
    }
}

/// Where a request goes.
#[derive(Debug)]
pub(crate) enum Destination {
    /// To the route of this index, with the decoded variable segment of the path.
    Route(usize, Box<str>),
    /// To nobody: the path has no such method. `Allow` says which it has.
    MethodUnknown(HeaderValue),
    /// To nobody: it asks for the path's methods. `Allow` says which.
    Options(HeaderValue),
    /// To nobody: no such path.
    PathUnknown,
}

/// The routes that a server serves.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    /// Those of a partner node, if it plays one; else none.
    node: &'static [Route],
}

/// Whether a server plays a partner node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeRole {
    /// It does not: the paths of a node are unknown.
    Off,
    /// It does.
    Played,
}

impl Served {
    /// Those of every server, and those of a node if it plays one.
    #[must_use]
    pub fn new(role: NodeRole) -> Served {
        let node = match role {
            NodeRole::Off => &[],
            NodeRole::Played => NODE_ROUTES,
        };
        Served { node }
    }

    /// All of them; their places are their indexes.
    pub fn iter(&self) -> impl Iterator<Item = &'static Route> {
        ROUTES.iter().chain(self.node)
    }

    /// The route of this index.
    pub(crate) fn get(&self, index: usize) -> &'static Route {
        ROUTES.get(index).unwrap_or_else(|| &self.node[index - ROUTES.len()])
    }

    /// Looks up a request.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Destination {
        let wanted = if method == Method::HEAD { &Method::GET } else { method };
        for (index, route) in self.iter().enumerate() {
            // Methods first: they are told apart faster.
            if route.method == *wanted
                && let Some(segment) = matches(route.path, path)
                && (segment.is_empty() || !self.is_literal(path))
            {
                let parameter = decode(segment);
                return parameter
                    .map_or(Destination::PathUnknown, |p| Destination::Route(index, p));
            }
        }
        self.find_none(method, path)
    }

    /// Whether a route without a variable has this path. It goes first: `/formulas/check` is a
    /// call of its own, not the formula named `check`.
    fn is_literal(&self, path: &str) -> bool {
        // A path may hold braces and look like a pattern: that is an id as any other.
        self.iter().any(|route| route.path == path && !path.contains('{'))
    }

    /// Where a request goes that no route takes.
    fn find_none(&self, method: &Method, path: &str) -> Destination {
        let is_options = method == Method::OPTIONS;
        let path_exists = self.iter().any(|route| matches(route.path, path).is_some());
        match path_exists {
            false if is_options && path == "*" => Destination::Options(self.allow(|_| true)),
            false => Destination::PathUnknown,
            true if is_options => Destination::Options(self.allow_of(path)),
            true => Destination::MethodUnknown(self.allow_of(path)),
        }
    }

    fn allow_of(&self, path: &str) -> HeaderValue {
        match self.is_literal(path) {
            true => self.allow(|route| route.path == path),
            false => self.allow(|route| matches(route.path, path).is_some()),
        }
    }

    /// The methods of the routes for which `wanted` holds, with those that follow from them.
    fn allow(&self, wanted: impl Fn(&Route) -> bool) -> HeaderValue {
        let mut methods: Vec<&str> = Vec::new();
        for route in self.iter().filter(|route| wanted(route)) {
            let served: &[&str] = match &route.method {
                method if method == Method::GET => &["GET", "HEAD"],
                method => &[method.as_str()],
            };
            for name in served {
                if !methods.contains(name) {
                    methods.push(name);
                }
            }
        }
        methods.push("OPTIONS");
        HeaderValue::from_str(&methods.join(", ")).expect("methods are tokens")
    }
}

/// The variable segment if `path` fits `pattern`; empty if the pattern has none.
///
/// Compares from the front, so that most patterns are told apart by a few bytes.
fn matches<'p>(pattern: &str, path: &'p str) -> Option<&'p str> {
    let (pattern, bytes) = (pattern.as_bytes(), path.as_bytes());
    let is_same = |(wanted, found): &(&u8, &u8)| wanted == found && **wanted != b'{';
    let same = pattern.iter().zip(bytes).take_while(is_same).count();
    if same == pattern.len() && same == bytes.len() {
        return Some("");
    }
    if pattern.get(same) != Some(&b'{') {
        return None;
    }
    let rest = &path[same..];
    let (segment, after) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let after_variable = pattern[same..].iter().position(|b| *b == b'}').map_or(0, |at| at + 1);
    let is_match = !segment.is_empty() && pattern[same + after_variable..] == *after.as_bytes();
    is_match.then_some(segment)
}

/// The segment's text; `None` when it is not UTF-8 and so names nothing.
fn decode(segment: &str) -> Option<Box<str>> {
    match percent_encoding::percent_decode_str(segment).decode_utf8().ok()? {
        Cow::Borrowed(text) => Some(text.into()),
        Cow::Owned(text) => Some(text.into()),
    }
}

#[cfg(test)]
mod tests;
