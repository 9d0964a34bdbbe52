//! Which variant a user is bucketed into: a pure function of the experiment and the user.
//!
//! Byte-compatible with gateways that already run: the bucket is the first four bytes of the SHA-256 of
//! `model_exp_{experiment id}_{subject}_{value}`, as a big-endian number, modulo the sum of the
//! weights. Variants share the line of weights in ascending order of their ids.

use sha2::{Digest, Sha256};

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
    // Few updates, since each costs a tenth of the hash.
    let mut head = *b"model_exp_00000000-0000-0000-0000-000000000000_";
    experiment.as_uuid().hyphenated().encode_lower(&mut head[10..46]);
    let mut seed = Sha256::new();
    seed.update(head);
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

/// The line of weights with where each variant's share ends: what [`pick`] adds up, ready for many picks.
#[derive(Debug)]
pub(crate) struct WeightLine(Box<[u64]>);

impl WeightLine {
    /// The line of variants in ascending order of their ids.
    pub(crate) fn new(weights: impl Iterator<Item = Weight>) -> Self {
        let ends = weights.scan(0, |end, weight| {
            *end += u64::from(weight.get().unsigned_abs());
            Some(*end)
        });
        Self(ends.collect())
    }

    /// The place in the order of the variant of `experiment` that `subject` is bucketed into.
    pub(crate) fn pick(&self, experiment: ExperimentId, subject: Subject<'_>) -> Option<usize> {
        let bucket = bucket(experiment, subject, *self.0.last()?);
        self.0.iter().position(|end| bucket < *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::AllocationSubject::{Ip, Machine, User};

    /// Computed by Python: `int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4], "big") % total`.
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
            let subject = Subject::new(kind, value).unwrap();
            assert_eq!(bucket(experiment.parse().unwrap(), subject, total), expected, "{value}");
        }
    }

    #[test]
    fn picks_the_variant_whose_share_the_bucket_lies_in() {
        let experiment = VECTORS[1].0.parse().unwrap();
        let pick = |weights: &[u64], user| {
            assert_eq!(weights.iter().sum::<u64>(), 100);
            let weight = |weight: &u64| Weight::new((*weight).try_into().unwrap()).unwrap();
            let subject = Subject::new(User, user).unwrap();
            let picked = pick(experiment, weights, weight, subject).unwrap();
            weights.iter().position(|weight| std::ptr::eq(weight, picked)).unwrap()
        };
        // In 100 shares the users 1 and 2 have the buckets of the vectors.
        for (user, bucket) in [("user-1", VECTORS[1].4), ("user-2", VECTORS[2].4)] {
            assert_eq!(pick(&[100], user), 0);
            assert_eq!(pick(&[bucket, 100 - bucket], user), 1);
            assert_eq!(pick(&[bucket + 1, 99 - bucket], user), 0);
            assert_eq!(pick(&[1, bucket - 1, 1, 99 - bucket], user), 2);
        }
    }

    #[test]
    fn a_line_that_is_ready_picks_as_one_that_is_added_up() {
        let experiment = VECTORS[0].0.parse().unwrap();
        for weights in [&[][..], &[1], &[3, 1, 7], &[i32::MAX, 1, i32::MAX]] {
            let weight = |weight: &i32| Weight::new(*weight).unwrap();
            let line = WeightLine::new(weights.iter().map(weight));
            for user in 0..200 {
                let user = format!("user-{user}");
                let subject = Subject::new(User, &user).unwrap();
                let picked = line.pick(experiment, subject).map(|at| &raw const weights[at]);
                let expected = pick(experiment, weights, weight, subject);
                assert_eq!(picked, expected.map(std::ptr::from_ref), "{weights:?} {user}");
            }
        }
    }

    #[test]
    fn the_sum_of_weights_may_exceed_32_bits() {
        let experiment = VECTORS[0].0.parse().unwrap();
        let most = Weight::new(i32::MAX).unwrap();
        let share = u64::from(i32::MAX.unsigned_abs());
        for user in ["a", "b", "c", "d", "e"] {
            let subject = Subject::new(User, user).unwrap();
            let expected = bucket(experiment, subject, 3 * share) / share;
            assert_eq!(pick(experiment, &[0, 1, 2], |_| most, subject), Some(&expected));
        }
    }

    #[test]
    fn without_a_variant_there_is_no_pick() {
        let subject = Subject::new(User, "x").unwrap();
        let experiment = VECTORS[0].0.parse().unwrap();
        assert_eq!(bucket(experiment, subject, 0), 0);
        assert_eq!(pick(experiment, &[], |weight: &Weight| *weight, subject), None);
    }

    #[test]
    fn users_come_before_machines_before_addresses() {
        let first_of = |user, machine, ip| {
            Subject::first_of(user, machine, ip).map(|subject| (subject.kind(), subject.value()))
        };
        assert_eq!(first_of(Some("u"), Some("m"), Some("i")), Some((User, "u")));
        assert_eq!(first_of(Some(""), Some("m"), Some("i")), Some((Machine, "m")));
        assert_eq!(first_of(None, Some(""), Some("i")), Some((Ip, "i")));
        assert_eq!(first_of(None, Some(""), None), None);
    }
}
