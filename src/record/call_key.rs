//! How the key of a call to a node is spelled, and which of two calls is the later one.
//!
//! ```text
//! <store>/<transaction>/<node>/<number>
//! ```
//!
//! The store that calls, as 32 hexadecimal digits (hyphens are no matter); the LSN of the
//! transaction; the node's place in it; the number of the call. A store has one transaction at a
//! time on a group and numbers its calls upwards, so of two calls of one store for one group the
//! one with the lower transaction, or in the same one with the lower number, was sent first.
//!
//! Any other key is a name for one call, and is neither before nor after another.

use std::cmp::Ordering;
use std::str::FromStr;

use super::releases::CallKey;

/// Hexadecimal digits of a store's id.
const STORE_DIGITS: usize = 32;

/// What the key of a store's transaction says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parts<'a> {
    store: &'a str,
    transaction: u64,
}

impl CallKey {
    /// The key of this text.
    #[must_use]
    pub fn of(text: &str) -> CallKey {
        let split = text.rsplit_once('/').filter(|(transaction, _)| parts(transaction).is_some());
        match split.and_then(|(transaction, number)| Some((transaction, digits(number)?))) {
            Some((transaction, number)) => CallKey { transaction: transaction.into(), number },
            None => CallKey { transaction: text.into(), number: 0 },
        }
    }

    /// Who calls: the store; of a key that names none the whole of it.
    #[must_use]
    pub fn caller(&self) -> &str {
        parts(&self.transaction).map_or(&self.transaction, |parts| parts.store)
    }

    /// Whether the call was sent before the other, after it, or is the same; `None`: nobody can
    /// say, or both were sent at once.
    #[must_use]
    pub fn order(&self, other: &CallKey) -> Option<Ordering> {
        if self == other {
            return Some(Ordering::Equal);
        }
        let (own, others) = (parts(&self.transaction)?, parts(&other.transaction)?);
        let order = (own.transaction, self.number).cmp(&(others.transaction, other.number));
        (own.store == others.store && order.is_ne()).then_some(order)
    }
}

/// What the part of a key in front of the number says, if it is a store's.
fn parts(transaction: &str) -> Option<Parts<'_>> {
    let mut split = transaction.split('/');
    let (store, transaction, node) = (split.next()?, split.next()?, split.next()?);
    let is_store = store.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
        && store.bytes().filter(u8::is_ascii_hexdigit).count() == STORE_DIGITS;
    if !is_store || split.next().is_some() {
        return None;
    }
    digits::<u8>(node)?;
    Some(Parts { store, transaction: digits(transaction)? })
}

/// A number in its one spelling: without sign and leading zeros.
fn digits<N: FromStr>(text: &str) -> Option<N> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let is_short = text.len() == 1 || !text.starts_with('0');
    if is_plain && is_short { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: &str = "0123456789abcdef0123456789abcdef";
    const OTHER: &str = "1123456789abcdef0123456789abcdef";

    fn key(store: &str, rest: &str) -> CallKey {
        CallKey::of(&format!("{store}/{rest}"))
    }

    #[test]
    fn a_key_of_a_store_is_taken_apart() {
        let read = key(STORE, "57/2/9");
        assert_eq!((&*read.transaction, read.number), (&*format!("{STORE}/57/2"), 9));
        assert_eq!(read.caller(), STORE);
        let hyphens = "01234567-89ab-cdef-0123-456789abcdef";
        assert_eq!(key(hyphens, "57/2/4294967295").number, u32::MAX);
        assert_eq!(key(hyphens, "18446744073709551615/255/0").caller(), hyphens);
    }

    #[test]
    fn any_other_key_is_one_call() {
        let (short, long) = (&STORE[1..], format!("{STORE}0"));
        let beyond = format!("{STORE}/18446744073709551616/1/1");
        for text in [
            "",
            "/",
            "k",
            "orders/2024/5/1",
            &format!("{short}/57/2/9"),
            &format!("{long}/57/2/9"),
            &beyond,
            &format!("{STORE}/57/2"),
            &format!("{STORE}/57/2/"),
            &format!("{STORE}/57/2/4294967296"),
            &format!("{STORE}/57/256/9"),
            &format!("{STORE}/057/2/9"),
            &format!("{STORE}/57/+2/9"),
            &format!("{STORE}/57/2/-9"),
            &format!("{STORE}/57/2/9/9"),
            &format!("{STORE}//2/9"),
            &format!("{STORE}/57/2/ 9"),
        ] {
            let read = CallKey::of(text);
            assert_eq!((&*read.transaction, read.number), (text, 0));
        }
        assert_eq!(CallKey::of("a").order(&CallKey::of("b")), None);
        assert_eq!(CallKey::of("a").order(&CallKey::of("a")), Some(Ordering::Equal));
    }

    #[test]
    fn calls_of_one_store_are_in_order() {
        let order = |a: &str, b: &str| key(STORE, a).order(&key(STORE, b));
        assert_eq!(order("57/2/9", "57/2/9"), Some(Ordering::Equal));
        assert_eq!(order("57/2/9", "57/2/10"), Some(Ordering::Less));
        assert_eq!(order("57/2/2", "57/2/1"), Some(Ordering::Greater));
        assert_eq!(order("57/2/9", "58/2/1"), Some(Ordering::Less));
        assert_eq!(order("100/2/1", "99/2/7"), Some(Ordering::Greater));
        // The same server under two names, or at another place in the next transaction.
        assert_eq!(order("57/0/1", "57/1/1"), None);
        assert_eq!(order("57/0/1", "57/1/2"), Some(Ordering::Less));
        assert_eq!(order("57/0/9", "58/1/1"), Some(Ordering::Less));
        assert_eq!(key(STORE, "57/2/9").order(&key(OTHER, "58/2/1")), None);
    }
}
