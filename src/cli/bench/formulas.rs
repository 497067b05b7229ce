//! Formulas that are all different and all of the usual size.
//!
//! A body is one of a thousand templates made beforehand, with nine digits of its first
//! concentration written over: that is all it takes to make a new make-up, so the generator costs
//! the load next to nothing. The templates differ in names, order and digits, so that no server
//! learns one body by heart.
//!
//! The templates grow from a seed: the same seed and number give the same body in every run, and
//! runs with different seeds share no make-up but by a chance that does not occur.

use crate::formula::{self, Rules};
use crate::limits::BENCH_NUMBERS_MAX;

/// Different bodies apart from the digits that are written over.
const TEMPLATES: usize = 1024;
/// Lines of each formula, as many as the peers were measured with.
const MATERIALS: usize = 8;
/// Where the digits go: a number below a thousand million makes a make-up of its own.
const DIGITS: &[u8] = b"000000000";
/// Where the benchmarks' bodies grow from.
const SEED: u64 = 0x5111_a6e0;
const _: () = assert!(DIGITS.len() == 9 && BENCH_NUMBERS_MAX == 1_000_000_000);

/// Names as perfumers write them, 16 characters on average.
const NAMES: [&str; 32] = [
    "Bergamot Oil",
    "Hedione",
    "Iso E Super",
    "Linalyl Acetate",
    "Ethylene Brassylate",
    "Ambroxan 10% in DPG",
    "Lavender absolute",
    "Dipropylene Glycol",
    "Ylang Ylang Extra",
    "Patchouli Heart",
    "Vetiver Haiti",
    "alpha-Ionone",
    "Methyl Ionone Gamma",
    "Sandalwood Mysore",
    "Labdanum Resinoid",
    "Rose Absolute Bulgaria",
    "Jasmine Sambac",
    "Benzyl Salicylate",
    "Cis-3-Hexenyl Acetate",
    "Coumarin",
    "Ethyl Vanillin 10%",
    "Galaxolide 50 in IPM",
    "Lemon Oil Italy",
    "Petitgrain Paraguay",
    "Phenyl Ethyl Alcohol",
    "Pink Pepper CO2",
    "Cedarwood Virginia",
    "Tonka Bean Absolute",
    "Hydroxycitronellal",
    "Javanol 1% in DPG",
    "Aldehyde C-12 MNA",
    "Orange Blossom Water",
];

/// The source of bodies.
#[derive(Debug)]
pub struct Formulas {
    templates: Vec<Template>,
}

#[derive(Debug)]
struct Template {
    name: String,
    json: String,
    /// Where [`DIGITS`] begin.
    digits_at: usize,
}

impl Formulas {
    /// The source of the benchmarks, the same in every run.
    #[must_use]
    pub fn new() -> Formulas {
        Formulas::seeded(SEED)
    }

    /// The source that grows from this seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Formulas {
        let mut random = fastrand::Rng::with_seed(seed);
        Formulas { templates: (0..TEMPLATES).map(|_| Template::new(&mut random)).collect() }
    }

    /// The name of the formula with this number. It needs no escaping in JSON.
    #[must_use]
    pub fn name(&self, number: u64) -> &str {
        &self.of(number).name
    }

    /// The id of the formula with this number, in hexadecimal: what a server must compute. Uses
    /// `body` as room.
    ///
    /// # Panics
    /// If a template is no valid formula, which a test excludes.
    #[must_use]
    pub fn id(&self, number: u64, body: &mut Vec<u8>) -> [u8; 64] {
        body.clear();
        self.write(number, body);
        let checked = formula::parse(body, &Rules::default());
        checked.expect("a generated body is valid").fingerprint.to_hex()
    }

    /// Appends the body with this number, below `BENCH_NUMBERS_MAX`: different numbers, different
    /// make-ups.
    pub fn write(&self, number: u64, out: &mut Vec<u8>) {
        let template = self.of(number);
        out.extend_from_slice(template.json.as_bytes());
        let start = out.len() - template.json.len() + template.digits_at;
        let mut rest = number;
        for digit in out[start..start + DIGITS.len()].iter_mut().rev() {
            *digit = b'0' + u8::try_from(rest % 10).expect("a digit");
            rest /= 10;
        }
    }

    fn of(&self, number: u64) -> &Template {
        let index = usize::try_from(number).expect("a number is small") % TEMPLATES;
        &self.templates[index]
    }
}

impl Default for Formulas {
    fn default() -> Formulas {
        Formulas::new()
    }
}

impl Template {
    fn new(random: &mut fastrand::Rng) -> Template {
        let mut names = NAMES;
        random.shuffle(&mut names);
        let accord = random.u32(..10_000);
        let name = format!("Accord {accord:04}");
        let mut json = format!("{{\"name\":\"{name}\",\"materials\":[");
        let mut digits_at = 0;
        for (index, name) in names.iter().take(MATERIALS).enumerate() {
            if index > 0 {
                json.push(',');
            }
            let whole = random.u32(1..=20);
            json.push_str(&format!("{{\"name\":\"{name}\",\"concentration\":{whole}."));
            if index == 0 {
                digits_at = json.len();
                json.push_str(std::str::from_utf8(DIGITS).expect("digits"));
            } else {
                json.push_str(&random.u32(1..100).to_string());
            }
            json.push('}');
        }
        json.push_str("]}");
        Template { name, json, digits_at }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_number_is_a_valid_formula_of_its_own_and_of_the_usual_size() {
        let formulas = Formulas::seeded(7);
        let mut body = Vec::new();
        let mut ids = HashSet::new();
        let numbers = (0..3 * TEMPLATES as u64).chain([BENCH_NUMBERS_MAX - 1]);
        for number in numbers {
            assert!(ids.insert(formulas.id(number, &mut body)), "{number}");
            assert!((350..=500).contains(&body.len()), "{} bytes", body.len());
            let name = format!("{{\"name\":\"{}\",", formulas.name(number));
            assert!(body.starts_with(name.as_bytes()), "{number}");
        }
    }

    #[test]
    fn a_seed_gives_the_same_bodies_again_and_another_seed_others() {
        let id = |seed| Formulas::seeded(seed).id(5, &mut Vec::new());
        assert_eq!(id(1), id(1));
        assert_ne!(id(1), id(2));
    }
}
