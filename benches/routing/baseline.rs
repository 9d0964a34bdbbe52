//! Baselines: only the work that picking and decrypting can't avoid.

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

/// Number of requests in the cycle: enough to ask for every experiment, few enough to stay in the
/// processor's cache, as a request does that a service has just parsed.
const REQUESTS: usize = 2_048;

/// A request, with the seed from which its user's bucket is computed.
pub struct Request {
    pub model: String,
    pub user: String,
    seed: String,
}

impl Request {
    /// Requests for the models `family/1` to `family/{models}` in mixed order, each from another
    /// user.
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

    /// The hash that the bucket is taken from: 65 bytes, two blocks.
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(black_box(&self.seed)).into()
    }
}

/// A map of the routed experiments, and a clock to tell its age.
pub struct Lookup(HashMap<String, ExperimentId, RandomState>);

impl Lookup {
    pub fn new(experiments: &HashMap<String, RoutedExperiment>) -> Self {
        Self(experiments.iter().map(|(model, of)| (model.clone(), of.id())).collect())
    }

    pub fn find(&self, model: &str) -> (Option<&ExperimentId>, Instant) {
        (self.0.get(model), Instant::now())
    }
}

/// A ciphertext and its key.
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

    /// Decrypts the ciphertext.
    pub fn decrypt(&self) -> Vec<u8> {
        let mut buffer = black_box(&self.ciphertext).clone();
        self.key
            .decrypt_inout_detached(&self.nonce, &[], buffer.as_mut_slice().into(), &self.tag)
            .unwrap();
        buffer
    }
}
