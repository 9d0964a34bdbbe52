//! Which variant a user is bucketed into: a pure function of the experiment and the user.
//!
//! Byte-compatible with gateways that already run: the bucket is the first four bytes of the SHA-256 of
//! `model_exp_{experiment id}_{subject}_{value}`, as a big-endian number, modulo the sum of the
//! weights. Variants share the line of weights in ascending order of their ids.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::values::{AllocationSubject, ExperimentId, Weight};

/// Whom a request is bucketed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subject<'a> {
    kind: AllocationSubject,
    value: &'a str,
}

impl<'a> Subject<'a> {
    /// The subject `value` of a `kind`, if it isn't empty.
    pub fn new(kind: AllocationSubject, value: &'a str) -> Option<Self> {
        (!value.is_empty()).then_some(Self { kind, value })
    }

    /// The first that is known and not empty, in the order of precedence.
    ///
    /// ```
    /// use model_experiments::{bucketing::Subject, values::AllocationSubject};
    ///
    /// let subject = Subject::first_of(Some(""), None, Some("192.0.2.1")).unwrap();
    /// assert_eq!(subject.kind(), AllocationSubject::Ip);
    /// ```
    pub fn first_of(
        user_id: Option<&'a str>,
        machine_id: Option<&'a str>,
        client_ip: Option<&'a str>,
    ) -> Option<Self> {
        AllocationSubject::ALL
            .into_iter()
            .zip([user_id, machine_id, client_ip])
            .find_map(|(kind, value)| Self::new(kind, value?))
    }

    /// What the request is bucketed by.
    pub fn kind(&self) -> AllocationSubject {
        self.kind
    }

    /// Its value: a user's id, a machine's id or an IP address.
    pub fn value(&self) -> &'a str {
        self.value
    }
}

/// The place of `subject` on the line of `experiment`'s weights: a number below `total_weight`, the sum of
/// the weights; 0 when that is 0.
pub fn bucket(experiment: ExperimentId, subject: Subject<'_>, total_weight: u64) -> u64 {
    let mut seed = Sha256::new();
    seed.update(b"model_exp_");
    seed.update(experiment.as_uuid().hyphenated().encode_lower(&mut Uuid::encode_buffer()));
    seed.update(b"_");
    seed.update(subject.kind.as_str());
    seed.update(b"_");
    seed.update(subject.value);
    let [a, b, c, d, ..] = <[u8; 32]>::from(seed.finalize());
    u64::from(u32::from_be_bytes([a, b, c, d])).checked_rem(total_weight).unwrap_or_default()
}

/// The variant of `experiment` that `subject` is bucketed into; `None` when there is no variant.
///
/// `variants` are in ascending order of their ids; `weight` tells the weight of one.
pub fn pick<'v, V>(
    experiment: ExperimentId,
    variants: &'v [V],
    weight: impl Fn(&V) -> Weight,
    subject: Subject<'_>,
) -> Option<&'v V> {
    let weight = |variant: &V| u64::from(weight(variant).get().unsigned_abs());
    let mut left = bucket(experiment, subject, variants.iter().map(weight).sum());
    variants.iter().find(|variant| match left.checked_sub(weight(variant)) {
        Some(rest) => {
            left = rest;
            false
        }
        None => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // TESTS
}
