//! Refusals of the schema's guards, as the errors of the operations' own checks.

use serde::Deserialize;

use crate::error::constraint::Constraint;
use crate::error::kinds::{Error, NotReady};
use crate::values::{ExperimentId, Label, Status, Timestamp, VariantId};

/// The detail of a guard's error. Each rule takes its own fields.
#[derive(Deserialize)]
struct Detail {
    experiment: Option<ExperimentId>,
    status: Option<Status>,
    isolation: Option<String>,
    from: Option<Status>,
    to: Option<Status>,
    variant: Option<VariantId>,
    label: Option<Label>,
    effective_at: Option<Timestamp>,
    now: Option<Timestamp>,
}

/// The error of the check that the guard repeats. `None` where no operation can break the rule, or
/// the detail is missing or unreadable.
pub(super) fn refusal(guard: Constraint, detail: Option<&str>) -> Option<Error> {
    let read = || serde_json::from_str::<Detail>(detail?).ok();
    match guard {
        Constraint::ExperimentTransition => {
            let Detail { experiment, from, to, .. } = read()?;
            Some(Error::InvalidTransition { experiment: experiment?, from: from?, to: to? })
        }
        Constraint::ExperimentReady => {
            let Detail { experiment, variant, label, .. } = read()?;
            let reason = match variant {
                Some(variant) => NotReady::NoCurrentVersion { variant, label: label? },
                None => NotReady::NoVariant,
            };
            Some(Error::NotReady { experiment: experiment?, reason })
        }
        Constraint::ExperimentActiveNotArchived => {
            Some(Error::ActiveNotArchivable(read()?.experiment?))
        }
        Constraint::ExperimentDraftOnly => {
            let Detail { experiment, status, .. } = read()?;
            Some(Error::NotDraft { experiment: experiment?, status: status? })
        }
        Constraint::ExperimentReadCommitted => {
            let Detail { experiment, isolation, .. } = read()?;
            Some(Error::IsolationTooStrict {
                experiment: experiment?,
                isolation: isolation?.to_uppercase(),
            })
        }
        Constraint::ExperimentNotCompleted => Some(Error::Completed(read()?.experiment?)),
        Constraint::VersionNotBackdated => {
            let Detail { variant, effective_at, now, .. } = read()?;
            Some(Error::Backdated { variant: variant?, effective_at: effective_at?, now: now? })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_that_got_lost_or_can_not_be_read_tells_no_more_than_the_rule() {
        for detail in [
            None,
            Some(""),
            Some("Key (id)=(1) already exists."),
            Some("{}"),
            Some(r#"{"experiment": "x"}"#),
        ] {
            for guard in Constraint::all() {
                assert_eq!(refusal(guard, detail), None, "{guard:?}: {detail:?}");
            }
        }
    }
}
