//! The public model ids whose routing changed, until they are loaded.

use std::collections::BTreeSet;
use std::mem::take;

use crate::values::PublicModelId;

/// The most ids that are kept, and that one query loads.
pub(super) const MAX_IDS: usize = 500;

/// The ids of notifications that wait to be loaded. However many arrive, at most [`MAX_IDS`] are
/// kept.
#[derive(Debug, Default)]
pub(super) struct Pending {
    ids: BTreeSet<PublicModelId>,
    /// More ids arrived than are kept.
    is_overflowed: bool,
}

/// What is to be loaded.
#[derive(Debug, PartialEq)]
pub(super) enum Changed {
    /// These ids.
    Ids(Vec<String>),
    /// Whatever a poll finds: too many ids arrived.
    Unknown,
}

impl Pending {
    /// Adds the id in a notification. Any role that can connect can notify, so a payload that is no
    /// public model id is dropped.
    pub(super) fn insert(&mut self, payload: &str) {
        if self.is_overflowed {
            return;
        }
        let Ok(id) = payload.parse() else { return };
        self.ids.insert(id);
        if self.ids.len() > MAX_IDS {
            *self = Self { ids: BTreeSet::new(), is_overflowed: true };
        }
    }

    /// What is to be loaded, if anything is. Nothing is pending afterwards.
    pub(super) fn take(&mut self) -> Option<Changed> {
        let Self { ids, is_overflowed } = take(self);
        if is_overflowed {
            return Some(Changed::Unknown);
        }
        let ids: Vec<_> = ids.into_iter().map(|id| id.as_str().to_owned()).collect();
        (!ids.is_empty()).then_some(Changed::Ids(ids))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(payloads: impl IntoIterator<Item = String>) -> Option<Changed> {
        let mut pending = Pending::default();
        for payload in payloads {
            pending.insert(&payload);
        }
        let taken = pending.take();
        assert_eq!(pending.take(), None);
        taken
    }

    fn ids(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("partner/{number:04}")).collect()
    }

    #[test]
    fn an_id_is_pending_once_until_it_is_taken() {
        assert_eq!(taken([]), None);
        let twice = ["partner/a", "partner/b", "partner/a"].map(str::to_owned);
        let expected = ["partner/a", "partner/b"].map(str::to_owned);
        assert_eq!(taken(twice), Some(Changed::Ids(expected.into())));
    }

    #[test]
    fn a_payload_that_is_no_public_model_id_is_dropped() {
        let junk = ["", "a b", "a\nb", "a\u{7f}", &"a".repeat(201), &"a".repeat(7_999)];
        assert_eq!(taken(junk.map(str::to_owned)), None);
        let longest = "é".repeat(200);
        assert_eq!(taken([longest.clone()]), Some(Changed::Ids(vec![longest])));
    }

    #[test]
    fn past_the_bound_no_id_is_kept_and_all_are_unknown() {
        assert_eq!(taken(ids(MAX_IDS)), Some(Changed::Ids(ids(MAX_IDS))));
        assert_eq!(taken(ids(MAX_IDS + 1)), Some(Changed::Unknown));

        let mut pending = Pending::default();
        for id in ids(3 * MAX_IDS) {
            pending.insert(&id);
            assert!(pending.ids.len() <= MAX_IDS);
        }
        assert!(pending.ids.is_empty());
        assert_eq!(pending.take(), Some(Changed::Unknown));
        pending.insert("partner/a");
        assert_eq!(pending.take(), Some(Changed::Ids(vec!["partner/a".to_owned()])));
    }
}
