//! A version is published with a plaintext key.

use model_experiments::experiments::NewVersion;
use model_experiments::secrecy::SecretString;
use model_experiments::values::Upstream;

fn version<'a>(upstream: &'a Upstream, key: &'a SecretString) -> NewVersion<'a> {
    NewVersion::with_key(upstream, key)
}

fn main() {}
