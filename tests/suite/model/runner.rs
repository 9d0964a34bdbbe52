//! Random values that can be had once more.

use proptest::test_runner::{Config, RngSeed, TestRunner};
use uuid::Uuid;

/// A runner that says how to repeat what it does: with the environment variable that it prints.
pub fn seeded() -> TestRunner {
    let mut config =
        Config { failure_persistence: None, max_shrink_iters: 4_000, ..Config::default() };
    let seed = match config.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => Uuid::now_v7().as_u64_pair().1,
    };
    println!("to repeat it: PROPTEST_RNG_SEED={seed}");
    config.rng_seed = RngSeed::Fixed(seed);
    TestRunner::new(config)
}
