//! What routing decides.

use secrecy::SecretString;
use std::fmt;
use std::sync::Arc;

use crate::routing::unavailable::Unavailable;
use crate::routing::variants::{Checkpoint, ServingVariants};
use crate::values::{
    AllocationSubject, ApiKeyCipher, CipherError, ExperimentId, Upstream, VariantId, VersionId,
};

/// What to do with a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Route {
    /// Serve it by this version.
    Serve(Served),
    /// No experiment is active or paused on the public model id: serve it as without experiments.
    NotExperimented,
    /// The experiment is paused: answer "not found", and never serve it otherwise.
    Paused,
    /// It can't be served now: answer "unavailable", and never serve it otherwise.
    Unavailable(Unavailable),
}

/// The version that serves a request.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Served {
    /// The experiment.
    pub experiment: ExperimentId,
    /// The variant that the subject is bucketed into.
    pub variant: VariantId,
    /// The variant's current version.
    pub version: VersionId,
    /// What the request was bucketed by.
    pub subject: AllocationSubject,
    pub(super) picked: Picked,
}

/// A picked variant. All variants of an experiment live on together for as long as one of them
/// serves a request.
#[derive(Clone)]
pub(super) struct Picked {
    pub(super) variants: Arc<ServingVariants>,
    pub(super) position: usize,
}

impl Served {
    /// Where and how to call the checkpoint.
    pub fn upstream(&self) -> &Upstream {
        &self.picked.checkpoint().upstream
    }

    /// Decrypts the API key to call the checkpoint with.
    ///
    /// # Errors
    ///
    /// [`CipherError`] when `cipher` lacks the master key that the key was encrypted under.
    pub fn api_key(&self, cipher: &ApiKeyCipher) -> Result<SecretString, CipherError> {
        cipher.decrypt(&self.picked.checkpoint().key)
    }
}

impl Picked {
    fn checkpoint(&self) -> &Checkpoint {
        &self.variants.at(self.position).checkpoint
    }
}

impl PartialEq for Picked {
    fn eq(&self, other: &Self) -> bool {
        self.checkpoint() == other.checkpoint()
    }
}

impl fmt::Debug for Picked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.checkpoint().fmt(f)
    }
}
