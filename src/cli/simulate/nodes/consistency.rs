//! Where all groups are at one moment, and whether the nodes agree.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use crate::cli::simulate::nodes::node::Node;
use crate::cli::simulate::voice::shown;
use crate::limits::SIMULATE_PARTLY_SHOWN;

/// Where all groups are.
#[derive(Debug, Serialize)]
pub(super) struct Consistency<'a> {
    /// The URLs of the nodes.
    nodes: &'a [String],
    /// Whether each group is on all nodes or none.
    agree: bool,
    /// Effects that are yet to take place.
    late: usize,
    /// The nodes that each group is on. A group that is on none is not listed.
    groups: BTreeMap<&'a str, Vec<usize>>,
    /// The groups that are on some nodes only.
    partly: Vec<&'a str>,
}

impl<'a> Consistency<'a> {
    /// Looks at all nodes.
    pub(super) fn of(urls: &'a [String], nodes: &'a [Node]) -> Consistency<'a> {
        let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (place, node) in nodes.iter().enumerate() {
            for group in node.groups().present() {
                groups.entry(group).or_default().push(place);
            }
        }
        let some_only = groups.iter().filter(|(_, places)| places.len() < nodes.len());
        let partly: Vec<&str> = some_only.map(|(group, _)| *group).collect();
        let late = nodes.iter().map(Node::late).sum();
        Consistency { nodes: urls, agree: partly.is_empty(), late, groups, partly }
    }

    /// In a line.
    pub(super) fn words(&self) -> String {
        let count = self.groups.len();
        if self.agree {
            return format!("{count} groups, all nodes agree");
        }
        let first: Vec<String> =
            self.partly.iter().take(SIMULATE_PARTLY_SHOWN).map(|group| shown(group)).collect();
        let more = if self.partly.len() > first.len() { ", …" } else { "" };
        let partly = self.partly.len();
        format!("{count} groups, {partly} ON SOME NODES ONLY: {}{more}", first.join(", "))
    }

    /// As a table: a group a line, with the nodes that it is on.
    pub(super) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        for (group, places) in &self.groups {
            let places: Vec<String> = places.iter().map(usize::to_string).collect();
            let remark = if places.len() < self.nodes.len() { "  PARTLY" } else { "" };
            writeln!(out, "{}  on {}{remark}", shown(group), places.join(", "))?;
        }
        writeln!(out, "{}", self.words())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::simulate::nodes::conduct::Conduct;
    use crate::cli::simulate::nodes::groups::Groups;

    fn nodes(groups: &[&[&str]]) -> Vec<Node> {
        let node = |(place, groups): (usize, &&[&str])| {
            let present = groups.iter().map(|group| (*group).to_owned()).collect();
            Node::new(place, 0, Conduct::faultless(), Groups::new(present))
        };
        groups.iter().enumerate().map(node).collect()
    }

    fn printed(groups: &[&[&str]]) -> String {
        let (nodes, urls) = (nodes(groups), vec![String::new(); groups.len()]);
        let mut out = Vec::new();
        Consistency::of(&urls, &nodes).print(&mut out).expect("memory takes all");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn groups_are_on_all_nodes_or_are_named() {
        assert_eq!(printed(&[&["a"], &["a"]]), "a  on 0, 1\n1 groups, all nodes agree\n");
        assert_eq!(
            printed(&[&["a"], &["a", "b\n"], &["a"]]),
            "a  on 0, 1, 2\nb\\n  on 1  PARTLY\n2 groups, 1 ON SOME NODES ONLY: b\\n\n"
        );
        assert_eq!(printed(&[&[], &[]]), "0 groups, all nodes agree\n");
    }

    #[test]
    fn a_line_names_so_many_and_no_more() {
        let names: Vec<String> = (0..=SIMULATE_PARTLY_SHOWN).map(|n| format!("g{n:03}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let (all, most) = (printed(&[&names, &[]]), printed(&[&names[1..], &[]]));
        assert!(all.ends_with(", g019, …\n"), "{all}");
        assert!(most.ends_with(", g019, g020\n"), "{most}");
    }
}
