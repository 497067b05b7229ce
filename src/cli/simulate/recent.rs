//! What is known of each of many names, and of no more names than there is room for.

use std::collections::{HashMap, VecDeque};

/// What is known of each name. The one heard of first is forgotten when there are too many.
#[derive(Debug)]
pub(crate) struct Recent<V> {
    names_max: usize,
    known: HashMap<String, V>,
    /// The names in the order in which they were first heard of.
    order: VecDeque<String>,
}

impl<V: Default> Recent<V> {
    /// Room for so many names, at least one.
    pub(crate) fn new(names_max: usize) -> Recent<V> {
        assert!(names_max > 0, "there is room for a name");
        Recent { names_max, known: HashMap::new(), order: VecDeque::new() }
    }

    /// What is known of the name; it begins with the default.
    pub(crate) fn of(&mut self, name: &str) -> &mut V {
        if !self.known.contains_key(name) {
            if self.order.len() == self.names_max
                && let Some(oldest) = self.order.pop_front()
            {
                self.known.remove(&oldest);
            }
            self.order.push_back(name.to_owned());
        }
        self.known.entry(name.to_owned()).or_default()
    }

    /// What is known of the name, if anything.
    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut V> {
        self.known.get_mut(name)
    }

    /// All names, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &V)> {
        self.known.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_heard_of_first_is_forgotten() {
        let mut recent: Recent<u32> = Recent::new(2);
        for name in ["a", "b", "a", "c"] {
            *recent.of(name) += 1;
        }
        assert_eq!(recent.get_mut("a"), None);
        assert_eq!((*recent.of("b"), *recent.of("c"), recent.iter().count()), (1, 1, 2));
    }
}
