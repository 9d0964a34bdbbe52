//! Random values that can be repeated.

use proptest::test_runner::{Config, RngSeed, TestRunner};
use uuid::Uuid;

/// A runner that prints the environment variable with which it repeats the same values.
pub fn runner() -> TestRunner {
    let mut config =
        Config { failure_persistence: None, max_shrink_iters: 4_000, ..Config::default() };
    let seed = match config.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => {
            let (_, random) = Uuid::now_v7().as_u64_pair();
            random
        }
    };
    println!("to repeat it: PROPTEST_RNG_SEED={seed}");
    config.rng_seed = RngSeed::Fixed(seed);
    TestRunner::new(config)
}
