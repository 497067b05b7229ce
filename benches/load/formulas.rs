//! Formulas that are all different and all of the usual size.
//!
//! A body is one of [`TEMPLATES`] made beforehand, with nine digits of its first concentration
//! written over: that is all it takes to make a new make-up, so the generator costs the load
//! next to nothing. The templates differ in names, order and digits, so that no server learns
//! one body by heart.

/// Different bodies apart from the digits that are written over.
const TEMPLATES: usize = 1024;
/// Lines of each formula, as many as the peers were measured with.
const MATERIALS: usize = 8;
/// Where the digits go: a number below a thousand million makes a make-up of its own.
const DIGITS: &[u8] = b"000000000";
/// Makes every run submit the same bodies.
const SEED: u64 = 0x5111_a6e0;

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
pub(crate) struct Formulas {
    templates: Vec<Template>,
}

#[derive(Debug)]
struct Template {
    json: String,
    /// Where [`DIGITS`] begin.
    digits_at: usize,
}

impl Formulas {
    /// The same source in every run.
    pub(crate) fn new() -> Formulas {
        let mut random = fastrand::Rng::with_seed(SEED);
        Formulas { templates: (0..TEMPLATES).map(|_| Template::new(&mut random)).collect() }
    }

    /// Appends the body with this number, below 10^9: different numbers, different make-ups.
    pub(crate) fn write(&self, number: u64, out: &mut Vec<u8>) {
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

impl Template {
    fn new(random: &mut fastrand::Rng) -> Template {
        let mut names = NAMES;
        random.shuffle(&mut names);
        let accord = random.u32(..10_000);
        let mut json = format!("{{\"name\":\"Accord {accord:04}\",\"materials\":[");
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
        Template { json, digits_at }
    }
}
