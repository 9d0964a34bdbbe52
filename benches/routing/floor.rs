//! What picking and decrypting can't do without, and nothing else.

use aes_gcm::aead::{AeadInOut, KeyInit, Nonce, Tag};
use aes_gcm::{Aes256Gcm, Key};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use foldhash::fast::RandomState;
use model_experiments::routing::RoutedExperiment;
use model_experiments::values::{EncryptedApiKey, ExperimentId};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::hint::black_box;
use std::time::Instant;

/// How many requests come in turn: all experiments are asked for, and the requests themselves are near, as those of a
/// service are that has just parsed them.
const REQUESTS: usize = 2_048;

/// A request, with what its user is bucketed by, ready to be hashed.
pub struct Request {
    pub model: String,
    pub user: String,
    seed: String,
}

impl Request {
    /// Requests for the models `family/1` to `family/{models}` in mixed order, each of another user.
    pub fn many(
        family: &str,
        models: usize,
        experiments: &HashMap<String, RoutedExperiment>,
    ) -> Vec<Self> {
        let request = |at: usize| {
            let model = format!("{family}/{}", at * 7_919 % models + 1);
            let user = format!("user-{at:08}");
            let id = experiments.get(&model).map(|experiment| experiment.id().to_string());
            let seed = format!("model_exp_{}_user_{user}", id.unwrap_or_default());
            Self { model, user, seed }
        };
        (0..REQUESTS).map(request).collect()
    }

    /// The hash that decides on the bucket: of 65 bytes, which are two blocks.
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(black_box(&self.seed)).into()
    }
}

/// A map of what is routed, and the clock that tells how old it is.
pub struct Lookup(HashMap<String, ExperimentId, RandomState>);

impl Lookup {
    pub fn new(experiments: &HashMap<String, RoutedExperiment>) -> Self {
        Self(experiments.iter().map(|(model, of)| (model.clone(), of.id())).collect())
    }

    pub fn find(&self, model: &str) -> (Option<&ExperimentId>, Instant) {
        (self.0.get(model), Instant::now())
    }
}

/// A ciphertext and the key that it is under.
pub struct Decryption {
    key: Aes256Gcm,
    nonce: Nonce<Aes256Gcm>,
    tag: Tag<Aes256Gcm>,
    ciphertext: Vec<u8>,
}

impl Decryption {
    pub fn new(api_key: &EncryptedApiKey) -> Self {
        let json = api_key.to_json();
        let bytes = |name: &str| STANDARD.decode(json[name].as_str().unwrap()).unwrap();
        let master: [u8; 32] = *b"0123456789abcdef0123456789abcdef";
        Self {
            key: Aes256Gcm::new(&Key::<Aes256Gcm>::from(master)),
            nonce: bytes("iv").as_slice().try_into().unwrap(),
            tag: bytes("authTag").as_slice().try_into().unwrap(),
            ciphertext: bytes("data"),
        }
    }

    /// The plaintext.
    pub fn decrypt(&self) -> Vec<u8> {
        let mut buffer = black_box(&self.ciphertext).clone();
        self.key
            .decrypt_inout_detached(&self.nonce, &[], buffer.as_mut_slice().into(), &self.tag)
            .unwrap();
        buffer
    }
}
