//! Which variant a subject is bucketed into: a pure function of the experiment and the subject.
//!
//! Byte-compatible with gateways that already run. The bucket is the first four bytes of the
//! SHA-256 of `model_exp_{experiment id}_{subject}_{value}`, as a big-endian number, modulo the sum
//! of the weights. Variants share the buckets in ascending order of their ids, each as many as its
//! weight.

use sha2::{Digest, Sha256};

use crate::values::{AllocationSubject, ExperimentId, Weight};

/// The subject that a request is bucketed by, if one is known.
///
/// ```
/// use model_experiments::routing::Subject;
/// use model_experiments::values::AllocationSubject;
///
/// // A user id comes before a machine id before an address. An empty text is unknown.
/// let (user_id, machine_id) = (None, Some(""));
/// let subject = Subject::user(user_id).or_machine(machine_id).or_ip("192.0.2.1");
/// assert_eq!(subject.kind(), Some(AllocationSubject::Ip));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Subject<'a>(Option<(AllocationSubject, &'a str)>);

impl<'a> Subject<'a> {
    /// The subject `value` of a `kind`. It is unknown when the value is empty.
    pub fn new(kind: AllocationSubject, value: impl Into<Option<&'a str>>) -> Self {
        Self(value.into().filter(|value| !value.is_empty()).map(|value| (kind, value)))
    }

    /// No subject: nothing is known to bucket by.
    pub fn unknown() -> Self {
        Self::default()
    }

    /// A user, if the id is known.
    pub fn user(id: impl Into<Option<&'a str>>) -> Self {
        Self::new(AllocationSubject::User, id)
    }

    /// A machine, if the id is known.
    pub fn machine(id: impl Into<Option<&'a str>>) -> Self {
        Self::new(AllocationSubject::Machine, id)
    }

    /// A client's IP address, if it is known.
    pub fn ip(address: impl Into<Option<&'a str>>) -> Self {
        Self::new(AllocationSubject::Ip, address)
    }

    /// This subject if it is known, else a machine.
    #[must_use]
    pub fn or_machine(self, id: impl Into<Option<&'a str>>) -> Self {
        Self(self.0.or(Self::machine(id).0))
    }

    /// This subject if it is known, else a client's IP address.
    #[must_use]
    pub fn or_ip(self, address: impl Into<Option<&'a str>>) -> Self {
        Self(self.0.or(Self::ip(address).0))
    }

    /// What the request is bucketed by.
    pub fn kind(&self) -> Option<AllocationSubject> {
        self.0.map(|(kind, _)| kind)
    }

    /// Its value: a user's id, a machine's id or an IP address.
    pub fn value(&self) -> Option<&'a str> {
        self.0.map(|(_, value)| value)
    }
}

/// The bucket of `subject` in `experiment`: a number below `total_weight`, the sum of the weights.
///
/// `None` when the subject is unknown or the sum is 0.
pub fn bucket(experiment: ExperimentId, subject: Subject<'_>, total_weight: u64) -> Option<u64> {
    let Subject(Some((kind, value))) = subject else { return None };
    // Few updates, since each costs a tenth of the hash.
    let mut head = *b"model_exp_00000000-0000-0000-0000-000000000000_";
    experiment.as_uuid().hyphenated().encode_lower(&mut head[10..46]);
    let mut seed = Sha256::new();
    seed.update(head);
    seed.update(kind.as_str());
    seed.update(b"_");
    seed.update(value);
    let [a, b, c, d, ..] = <[u8; 32]>::from(seed.finalize());
    u64::from(u32::from_be_bytes([a, b, c, d])).checked_rem(total_weight)
}

/// The weights of an experiment's variants, added up for many picks.
///
/// ```
/// use model_experiments::routing::{CumulativeWeights, Subject};
/// use model_experiments::values::{ExperimentId, Weight};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let experiment: ExperimentId = "0193b5c0-7e2a-7c31-9f4e-2b6a1d8c5e90".parse()?;
/// let weights = CumulativeWeights::new([Weight::new(1)?, Weight::new(3)?]);
/// assert_eq!(weights.pick(experiment, Subject::user("user-1")), Some(1));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CumulativeWeights(Box<[u64]>);

impl CumulativeWeights {
    /// The weights of variants in ascending order of their ids.
    pub fn new(weights: impl IntoIterator<Item = Weight>) -> Self {
        let sums = weights.into_iter().scan(0, |sum, weight| {
            *sum += u64::from(weight.get().unsigned_abs());
            Some(*sum)
        });
        Self(sums.collect())
    }

    /// The position, in the order of the weights, of the variant that `subject` is bucketed into.
    ///
    /// `None` when the subject is unknown or there is no variant.
    pub fn pick(&self, experiment: ExperimentId, subject: Subject<'_>) -> Option<usize> {
        let bucket = bucket(experiment, subject, *self.0.last()?)?;
        self.0.iter().position(|sum| bucket < *sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::AllocationSubject::{Ip, Machine, User};

    /// Computed by Python:
    /// `int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4], "big") % total`.
    const VECTORS: [(&str, AllocationSubject, &str, u64, u64); 9] = [
        ("0193b5c0-7e2a-7c31-9f4e-2b6a1d8c5e90", User, "user-1", 2, 1),
        ("0193b5c0-7e2a-7c31-9f4e-2b6a1d8c5e90", User, "user-1", 100, 41),
        ("0193b5c0-7e2a-7c31-9f4e-2b6a1d8c5e90", User, "user-2", 100, 20),
        ("0193b5c0-7e2a-7c31-9f4e-2b6a1d8c5e90", Machine, "user-1", 100, 64),
        ("0193b5c0-7e2a-7c31-9f4e-2b6a1d8c5e90", Ip, "203.0.113.9", 7, 2),
        ("0193b5c0-7e2a-7c31-9f4e-2b6a1d8c5e90", Ip, "2001:db8::1", 4294967296, 2292158298),
        ("0193b5c0-7e2a-7c31-9f4e-2b6a1d8c5e90", User, "日本語 ☃", 1000, 255),
        ("00000000-0000-0000-0000-000000000000", User, "x", 1, 0),
        ("ffffffff-ffff-ffff-ffff-ffffffffffff", User, "x", 6442450941, 3203985333),
    ];

    #[test]
    fn buckets_are_those_of_the_vectors() {
        for (experiment, kind, value, total, expected) in VECTORS {
            let bucket = bucket(experiment.parse().unwrap(), Subject::new(kind, value), total);
            assert_eq!(bucket, Some(expected), "{value}");
        }
    }

    fn weights(weights: &[u64]) -> CumulativeWeights {
        let weight = |weight: &u64| Weight::new((*weight).try_into().unwrap()).unwrap();
        CumulativeWeights::new(weights.iter().map(weight))
    }

    #[test]
    fn picks_the_variant_whose_share_the_bucket_lies_in() {
        let experiment = VECTORS[1].0.parse().unwrap();
        // In 100 shares the users 1 and 2 have the buckets of the vectors.
        for (user, bucket) in [("user-1", VECTORS[1].4), ("user-2", VECTORS[2].4)] {
            for (shares, expected) in [
                (&[100][..], 0),
                (&[bucket, 100 - bucket], 1),
                (&[bucket + 1, 99 - bucket], 0),
                (&[1, bucket - 1, 1, 99 - bucket], 2),
            ] {
                assert_eq!(shares.iter().sum::<u64>(), 100);
                let picked = weights(shares).pick(experiment, Subject::user(user));
                assert_eq!(picked, Some(expected), "{user} {shares:?}");
            }
        }
    }

    #[test]
    fn the_sum_of_weights_may_exceed_32_bits() {
        let experiment = VECTORS[0].0.parse().unwrap();
        let share = u64::from(i32::MAX.unsigned_abs());
        for user in ["a", "b", "c", "d", "e"] {
            let subject = Subject::user(user);
            let expected = bucket(experiment, subject, 3 * share).unwrap() / share;
            let picked = weights(&[share; 3]).pick(experiment, subject);
            assert_eq!(picked, usize::try_from(expected).ok());
        }
    }

    #[test]
    fn nothing_is_picked_without_a_variant_or_a_subject() {
        let experiment = VECTORS[0].0.parse().unwrap();
        assert_eq!(bucket(experiment, Subject::user("x"), 0), None);
        assert_eq!(weights(&[]).pick(experiment, Subject::user("x")), None);
        assert_eq!(weights(&[1]).pick(experiment, Subject::unknown()), None);
        assert_eq!(weights(&[1]).pick(experiment, Subject::user("x")), Some(0));
    }

    #[test]
    fn users_come_before_machines_before_addresses() {
        let of = |user: Option<&'static str>,
                  machine: Option<&'static str>,
                  ip: Option<&'static str>| {
            let subject = Subject::user(user).or_machine(machine).or_ip(ip);
            subject.kind().zip(subject.value())
        };
        assert_eq!(of(Some("u"), Some("m"), Some("i")), Some((User, "u")));
        assert_eq!(of(Some(""), Some("m"), Some("i")), Some((Machine, "m")));
        assert_eq!(of(None, Some(""), Some("i")), Some((Ip, "i")));
        assert_eq!(of(None, Some(""), None), None);
    }
}
