//! What the nodes are told on their command line.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use crate::cli::simulate::Stage;
use crate::cli::simulate::chance::{Share, random_of};
use crate::cli::simulate::nodes::conduct::Conduct;
use crate::cli::simulate::nodes::groups::{Groups, Keys};
use crate::cli::simulate::nodes::manner::{
    CALL_FAULTS, Failing, LOOK_FAULTS, Manner, Shares, When,
};
use crate::cli::simulate::nodes::node::Node;
use crate::limits::{SIMULATE_DELAY_MS_MAX, SIMULATE_NODES_MAX};

/// Play partner nodes: independent, unreliable in every way, and honest about what is on them
///
/// Each node listens on a port of its own: the one given and those that follow, or free ones.
/// Nodes are counted from 0. Without any of the chances below every call is answered at once and
/// right.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sillage simulate nodes --listen 127.0.0.1:5000               ports 5000, 5001 and 5002
  sillage simulate nodes --count 5 --fail 0.3 --seed 7         all faults, the same each time
  sillage simulate nodes --fail-timeout-after 0.2 --fail-late 0.2 --report
  sillage simulate nodes --existing 'a,b@1'                    a on all nodes, b on node 1

A node's API, with trailing slashes (creating a group that exists is 400, deleting none is 404):
  curl http://127.0.0.1:5000/v1/group/ -d '{\"groupId\": \"a\"}'
  curl -X DELETE http://127.0.0.1:5000/v1/group/ -d '{\"groupId\": \"a\"}'
  curl http://127.0.0.1:5000/v1/group/a/

Ask a node, and tell it how to behave while it runs (what is left out stays as it was):
  curl http://127.0.0.1:5000/consistency
  curl 'http://127.0.0.1:5001/stats?last=10'                   or ?group=a
  curl http://127.0.0.1:5001/behave -d '{\"script\": [\"500\", \"timeout-after\", \"201\"]}'
  curl http://127.0.0.1:5001/behave -d '{\"group\": \"a\", \"script_get\": [\"503\"]}'
  curl http://127.0.0.1:5001/behave -d '{\"down\": true}'
  curl http://127.0.0.1:5001/behave -d '{\"script\": [\"late@1h\"]}'
  curl http://127.0.0.1:5001/behave -d '{\"release_late\": true}'
  curl http://127.0.0.1:5001/behave -d '{\"fail\": 0.3, \"fail_get\": 0.1}'
  curl http://127.0.0.1:5001/behave -d '{\"add\": [\"a\"], \"remove\": [\"b\"]}'

What requests meet, in scripts (each step for one request, `@300ms` behind it delays the answer):
  200, 201 or right  as it should          slow      as it should, after --slow-ms
  usual              as chance has it      late      effect up to --late-ms later, no answer
  500, 403, …        this status           timeout   no answer until the client leaves
  garbage            200 with a page       sever     the connection is closed
The last four are without the effect, and with it as 500-after, garbage-after, …

Exit codes: 0 ended by a signal, 2 wrong usage, 74 a port is in use.")]
pub(crate) struct NodesArgs {
    #[command(flatten)]
    pub(super) stage: Stage,
    /// How many nodes, 1 to 16
    #[arg(long, default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=SIMULATE_NODES_MAX as i64))]
    count: u16,
    #[command(flatten)]
    faults: FaultArgs,
    /// Milliseconds that a slow answer takes
    #[arg(long, default_value_t = 300)]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=SIMULATE_DELAY_MS_MAX))]
    slow_ms: u64,
    /// The most milliseconds by which an effect is late
    #[arg(long, default_value_t = 4000)]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=SIMULATE_DELAY_MS_MAX))]
    late_ms: u64,
    /// Milliseconds that each node is up, and then down, and so on; else they stay up
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=SIMULATE_DELAY_MS_MAX))]
    flap_ms: u64,
    /// Groups that are there from the beginning, on all nodes or one
    #[arg(long, value_name = "GROUP[@NODE]", value_delimiter = ',')]
    existing: Vec<Existing>,
    /// Understand `Idempotency-Key`: repeat answers, refuse calls that come after their undo
    #[arg(long)]
    honour_keys: bool,
    /// At the end, print each group with the nodes that it is on
    #[arg(long)]
    pub(super) report: bool,
}

/// How often requests meet which fault.
#[derive(Debug, clap::Args)]
struct FaultArgs {
    /// How often a request meets a fault of any kind below, all alike
    #[arg(long, value_name = "SHARE", default_value = "0")]
    fail: Share,
    /// The same for GET, where it differs
    #[arg(long, value_name = "SHARE")]
    fail_get: Option<Share>,
    /// How often a call is answered 500, without the effect
    #[arg(long, value_name = "SHARE")]
    fail_500: Option<Share>,
    /// How often a call is answered 500 after the effect
    #[arg(long, value_name = "SHARE")]
    fail_500_after: Option<Share>,
    /// How often a call is not answered and has no effect
    #[arg(long, value_name = "SHARE")]
    fail_timeout: Option<Share>,
    /// How often a call is not answered and has its effect
    #[arg(long, value_name = "SHARE")]
    fail_timeout_after: Option<Share>,
    /// How often a call is not answered and has its effect later
    #[arg(long, value_name = "SHARE")]
    fail_late: Option<Share>,
    /// How often the connection is closed, without the effect
    #[arg(long, value_name = "SHARE")]
    fail_sever: Option<Share>,
    /// How often the connection is closed after the effect
    #[arg(long, value_name = "SHARE")]
    fail_sever_after: Option<Share>,
    /// How often a call is refused with 403
    #[arg(long, value_name = "SHARE")]
    fail_403: Option<Share>,
    /// How often a call is answered 200 with a page, without the effect
    #[arg(long, value_name = "SHARE")]
    fail_garbage: Option<Share>,
    /// How often an answer is slow
    #[arg(long, value_name = "SHARE")]
    fail_slow: Option<Share>,
}

impl FaultArgs {
    /// What calls meet.
    fn calls(&self) -> Result<Shares, BadNodes> {
        let before = |failing| Manner::Fails(When::Before, failing);
        let after = |failing| Manner::Fails(When::After, failing);
        let single = [
            (before(Failing::Status(500)), self.fail_500),
            (after(Failing::Status(500)), self.fail_500_after),
            (before(Failing::Timeout), self.fail_timeout),
            (after(Failing::Timeout), self.fail_timeout_after),
            (Manner::Late, self.fail_late),
            (before(Failing::Sever), self.fail_sever),
            (after(Failing::Sever), self.fail_sever_after),
            (before(Failing::Status(403)), self.fail_403),
            (before(Failing::Garbage), self.fail_garbage),
            (Manner::Slow, self.fail_slow),
        ];
        let mut shares = Shares::even(&CALL_FAULTS, self.fail);
        for (fault, share) in single {
            if let Some(share) = share {
                shares.set(fault, share);
            }
        }
        if shares.is_possible() { Ok(shares) } else { Err(BadNodes::TooOften) }
    }
}

impl NodesArgs {
    /// Where the nodes listen, one after the other.
    pub(super) fn addresses(&self) -> Result<Vec<SocketAddr>, BadNodes> {
        let first = self.stage.listen;
        let address = |place| {
            let port = match first.port() {
                0 => 0,
                port => port.checked_add(place).ok_or(BadNodes::TooFewPorts)?,
            };
            Ok(SocketAddr::new(first.ip(), port))
        };
        (0..self.count).map(address).collect()
    }

    /// The nodes before the first request.
    pub(super) fn nodes(&self, seed: u64) -> Result<Vec<Node>, BadNodes> {
        let count = usize::from(self.count);
        if let Some(node) = self.existing.iter().filter_map(|it| it.node).find(|it| *it >= count) {
            return Err(BadNodes::NoSuchNode { node, count });
        }
        let usual = Conduct {
            calls: self.faults.calls()?,
            looks: Shares::even(&LOOK_FAULTS, self.faults.fail_get.unwrap_or(self.faults.fail)),
            slow_ms: self.slow_ms,
            late_ms: self.late_ms,
            flap_ms: self.flap_ms,
            keys: if self.honour_keys { Keys::Honoured } else { Keys::Ignored },
            ..Conduct::faultless()
        };
        let node = |place| {
            // All are up at first, and not all go down at a time.
            let flap_phase_us =
                random_of(seed, "flap", place as u64).u64(0..(self.flap_ms * 1000).max(1));
            let conduct = Conduct { flap_phase_us, ..usual.clone() };
            Node::new(place, seed, conduct, Groups::new(self.existing_on(place)))
        };
        Ok((0..count).map(node).collect())
    }

    fn existing_on(&self, place: usize) -> BTreeSet<String> {
        let is_there = |it: &&Existing| it.node.is_none_or(|node| node == place);
        self.existing.iter().filter(is_there).map(|it| it.group.clone()).collect()
    }
}

/// A group that is there from the beginning: `a` on all nodes, `a@1` on node 1.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Existing {
    group: String,
    /// `None`: on all of them.
    node: Option<usize>,
}

/// The text names no group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BadGroup;

impl fmt::Display for BadGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a group is such as `a`, or `a@1` if it is on node 1 only")
    }
}

impl Error for BadGroup {}

impl FromStr for Existing {
    type Err = BadGroup;

    fn from_str(text: &str) -> Result<Existing, BadGroup> {
        let (group, node) = match text.rsplit_once('@') {
            Some((group, digits)) => (group, Some(digits.parse().map_err(|_| BadGroup)?)),
            None => (text, None),
        };
        if group.is_empty() {
            Err(BadGroup)
        } else {
            Ok(Existing { group: group.to_owned(), node })
        }
    }
}

/// Why nodes cannot be as they are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadNodes {
    /// The shares are more than 1 together.
    TooOften,
    /// There are not as many ports behind the first one.
    TooFewPorts,
    /// A group is to be on a node that is not there.
    NoSuchNode {
        /// The node.
        node: usize,
        /// How many there are.
        count: usize,
    },
}

impl fmt::Display for BadNodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadNodes::TooOften => f.write_str("the shares of all faults are at most 1 together"),
            BadNodes::TooFewPorts => {
                f.write_str("each node has a port of its own, and the last port is 65535")
            }
            BadNodes::NoSuchNode { node, count } => {
                write!(f, "there is no node {node}: {count} are counted from 0")
            }
        }
    }
}

impl Error for BadNodes {}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches as _};

    use super::*;

    fn arguments(given: &[&str]) -> NodesArgs {
        let command = NodesArgs::augment_args(Command::new("nodes"));
        let matches = command.try_get_matches_from(["nodes"].iter().chain(given));
        NodesArgs::from_arg_matches(&matches.expect("well-formed")).expect("well-formed")
    }

    #[test]
    fn nodes_listen_on_ports_that_follow_each_other_or_on_free_ones() {
        let ports = |given: &[&str]| {
            let addresses = arguments(given).addresses()?;
            Ok(addresses.iter().map(SocketAddr::port).collect::<Vec<_>>())
        };
        assert_eq!(ports(&["--listen", "127.0.0.1:5000"]), Ok(vec![5000, 5001, 5002]));
        assert_eq!(ports(&["--count", "2"]), Ok(vec![0, 0]));
        assert_eq!(ports(&["--listen", "127.0.0.1:65533"]), Ok(vec![65533, 65534, 65535]));
        assert_eq!(ports(&["--listen", "127.0.0.1:65534"]), Err(BadNodes::TooFewPorts));
    }

    #[test]
    fn groups_exist_on_all_nodes_or_one() {
        let nodes = arguments(&["--existing", "a,b@1,x@y@2"]).nodes(7).expect("three nodes");
        let found: Vec<Vec<&String>> =
            nodes.iter().map(|node| node.groups().present().iter().collect()).collect();
        assert_eq!(found, [vec!["a"], vec!["a", "b"], vec!["a", "x@y"]]);
        let fault = arguments(&["--existing", "a@3"]).nodes(7).expect_err("0, 1 and 2");
        assert_eq!(fault, BadNodes::NoSuchNode { node: 3, count: 3 });
        for text in ["", "@1", "a@", "a@-1", "a@b"] {
            assert_eq!(text.parse::<Existing>(), Err(BadGroup), "{text}");
        }
    }

    #[test]
    fn shares_beyond_one_are_refused() {
        let calls = |given: &[&str]| arguments(given).faults.calls().map(|_| ());
        assert_eq!(calls(&["--fail", "1"]), Ok(()));
        assert_eq!(calls(&["--fail-late", "0.5", "--fail-500", "0.5"]), Ok(()));
        assert_eq!(calls(&["--fail-late", "0.6", "--fail-500", "0.5"]), Err(BadNodes::TooOften));
        assert_eq!(calls(&["--fail", "0.9", "--fail-403", "0.5"]), Err(BadNodes::TooOften));
    }
}
