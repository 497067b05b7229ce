//! What the unit tests of several modules share.

/// A source of randomness whose seed is printed; `SILLAGE_SEED` runs the same again.
pub(crate) fn random() -> fastrand::Rng {
    let given = std::env::var("SILLAGE_SEED").ok();
    #[allow(clippy::disallowed_methods, reason = "tests draw their own seeds")]
    let seed = given.map_or_else(|| fastrand::u64(..), |text| text.parse().unwrap());
    println!("SILLAGE_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}
