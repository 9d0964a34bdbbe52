//! The schema's constraints by name.

/// A constraint, unique index or guard of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Constraint {
    /// An experiment's id is unique.
    ExperimentId,
    /// An experiment's status is one of four.
    ExperimentStatus,
    /// No experiment is active and archived.
    ExperimentActiveNotArchived,
    /// At most one experiment is active or paused on a public model id.
    ExperimentRouting,
    /// Only an experiment that was activated has started.
    ExperimentStartedAt,
    /// Only a completed experiment has ended.
    ExperimentEndedAt,
    /// An experiment begins as a draft.
    ExperimentBeginsAsDraft,
    /// An experiment's status changes as the lifecycle allows.
    ExperimentTransition,
    /// An active experiment has variants, and each has a version that is effective.
    ExperimentReady,
    /// Only a draft's structure changes, and only a draft is deleted.
    ExperimentDraftOnly,
    /// No variant is relabelled and no version published once an experiment is completed.
    ExperimentNotCompleted,
    /// The instants at which an experiment started and ended never change.
    ExperimentInstantsKept,
    /// An experiment's instants lie in the years 1 to 9999.
    ExperimentInstants,
    /// An experiment's status, structure and versions change at READ COMMITTED.
    ExperimentReadCommitted,
    /// No experiment or variant becomes another, or another's work.
    ExperimentIdentity,
    /// A variant's instants lie in the years 1 to 9999.
    VariantInstants,
    /// A variant's id is unique.
    VariantId,
    /// A variant's experiment exists.
    VariantExperiment,
    /// A label is unique within its experiment.
    VariantLabel,
    /// A weight is positive.
    VariantWeight,
    /// A version's id is unique.
    VersionId,
    /// A version's variant exists.
    VersionVariant,
    /// A version's instants lie in the years 1 to 9999.
    VersionInstants,
    /// A version's upstream is at most 8 MiB long, and its encrypted key 128 KiB.
    VersionSize,
    /// A version never changes.
    VersionImmutable,
    /// A version isn't effective before it is published.
    VersionNotBackdated,
    /// A version isn't made in the future.
    VersionNotPostdated,
    /// A usage's id is unique.
    UsageId,
    /// A usage has at most one request.
    RequestUsageId,
    /// A request's usage exists.
    RequestUsage,
    /// A request's version exists, and a version with requests isn't deleted.
    RequestVersion,
    /// An allocation subject is one of three.
    RequestAllocationSubject,
    /// A system prompt reference is a hash or a sentinel.
    RequestSystemPrompt,
    /// A request body reference is a hash or a sentinel.
    RequestBody,
    /// A request's instant lies in the years 1 to 9999.
    RequestCreatedAt,
    /// A request never changes but to be wiped, and is deleted with its usage alone.
    RequestKept,
    /// No table is emptied.
    NotTruncated,
}

/// Every constraint with its name.
const NAMES: [(Constraint, &str); 37] = [
    (Constraint::ExperimentId, "model_experiment_pkey"),
    (Constraint::ExperimentStatus, "model_experiment_status_valid"),
    (Constraint::ExperimentActiveNotArchived, "model_experiment_active_not_archived"),
    (Constraint::ExperimentRouting, "UQ_model_experiment_public_model_id_routing"),
    (Constraint::ExperimentStartedAt, "model_experiment_started_at_valid"),
    (Constraint::ExperimentEndedAt, "model_experiment_ended_at_valid"),
    (Constraint::ExperimentBeginsAsDraft, "model_experiment_begins_as_draft"),
    (Constraint::ExperimentTransition, "model_experiment_transition_valid"),
    (Constraint::ExperimentReady, "model_experiment_ready"),
    (Constraint::ExperimentDraftOnly, "model_experiment_draft_only"),
    (Constraint::ExperimentNotCompleted, "model_experiment_not_completed"),
    (Constraint::ExperimentInstantsKept, "model_experiment_instants_kept"),
    (Constraint::ExperimentInstants, "model_experiment_instants_valid"),
    (Constraint::ExperimentReadCommitted, "model_experiment_read_committed"),
    (Constraint::ExperimentIdentity, "model_experiment_identity_kept"),
    (Constraint::VariantInstants, "model_experiment_variant_instants_valid"),
    (Constraint::VariantId, "model_experiment_variant_pkey"),
    (Constraint::VariantExperiment, "model_experiment_variant_experiment_id_fkey"),
    (Constraint::VariantLabel, "UQ_model_experiment_variant_experiment_label"),
    (Constraint::VariantWeight, "model_experiment_variant_weight_positive"),
    (Constraint::VersionId, "model_experiment_variant_version_pkey"),
    (Constraint::VersionVariant, "model_experiment_variant_version_variant_id_fkey"),
    (Constraint::VersionInstants, "model_experiment_variant_version_instants_valid"),
    (Constraint::VersionSize, "model_experiment_variant_version_size_valid"),
    (Constraint::VersionImmutable, "model_experiment_variant_version_immutable"),
    (Constraint::VersionNotBackdated, "model_experiment_variant_version_not_backdated"),
    (Constraint::VersionNotPostdated, "model_experiment_variant_version_not_postdated"),
    (Constraint::UsageId, "microdollar_usage_pkey"),
    (Constraint::RequestUsageId, "model_experiment_request_pkey"),
    (Constraint::RequestUsage, "model_experiment_request_usage_id_fkey"),
    (Constraint::RequestVersion, "model_experiment_request_variant_version_id_fkey"),
    (Constraint::RequestAllocationSubject, "model_experiment_request_allocation_subject_valid"),
    (Constraint::RequestSystemPrompt, "model_experiment_request_system_prompt_sha256_format"),
    (Constraint::RequestBody, "model_experiment_request_request_body_sha256_format"),
    (Constraint::RequestCreatedAt, "model_experiment_request_created_at_valid"),
    (Constraint::RequestKept, "model_experiment_request_kept"),
    (Constraint::NotTruncated, "model_experiment_not_truncated"),
];

impl Constraint {
    /// Every constraint.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.into_iter().map(|(constraint, _)| constraint)
    }

    /// The constraint's name in the database.
    pub fn name(self) -> &'static str {
        NAMES
            .into_iter()
            .find(|(constraint, _)| *constraint == self)
            .map_or("a constraint", |(_, name)| name)
    }

    /// The constraint that a violation names, in its own field or in its message.
    ///
    /// An error that was forwarded from another node has no field, and its name may carry a shard's
    /// number.
    pub(super) fn violated(field: Option<&str>, message: &str) -> Option<Self> {
        let named =
            field.or_else(|| message.split('"').find(|quoted| Self::of(quoted).is_some()))?;
        Self::of(named)
    }

    fn of(name: &str) -> Option<Self> {
        let is_shard = |suffix: &str| {
            suffix.strip_prefix('_').is_some_and(|shard| {
                !shard.is_empty() && shard.bytes().all(|byte| byte.is_ascii_digit())
            })
        };
        NAMES.into_iter().find_map(|(constraint, known)| {
            let suffix = name.strip_prefix(known)?;
            (suffix.is_empty() || is_shard(suffix)).then_some(constraint)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_a_constraint_lead_to_each_other() {
        for constraint in Constraint::all() {
            assert_eq!(Constraint::violated(Some(constraint.name()), ""), Some(constraint));
        }
        assert_eq!(Constraint::violated(Some("host_rule"), ""), None);
    }

    #[test]
    fn a_forwarded_violation_is_found_in_the_message() {
        let message =
            r#"duplicate key value violates unique constraint "microdollar_usage_pkey_102008""#;
        assert_eq!(Constraint::violated(None, message), Some(Constraint::UsageId));
        let message = r#"new row for relation "x_102008" violates check constraint "model_experiment_variant_weight_positive""#;
        assert_eq!(Constraint::violated(None, message), Some(Constraint::VariantWeight));
        assert_eq!(Constraint::violated(None, r#"constraint "microdollar_usage_pkey_x""#), None);
    }
}
