// @generated automatically by Diesel CLI.

diesel::table! {
    /// What a served request used and cost: the host's billing ledger.
    microdollar_usage (id) {
        /// Identifies the usage; a UUIDv7 of the application, so that inserts append to the primary key.
        id -> Uuid,
        /// The user who is billed, as the host identifies users.
        kilo_user_id -> Text,
        /// The cost, in microdollars (1,000,000 to the US dollar).
        cost -> Int8,
        /// Tokens of the prompt, in tokens.
        input_tokens -> Int8,
        /// Tokens generated, in tokens.
        output_tokens -> Int8,
        /// Prompt tokens written to the provider's cache, in tokens.
        cache_write_tokens -> Int8,
        /// Prompt tokens read from the provider's cache, in tokens.
        cache_hit_tokens -> Int8,
        /// The instant at which the request was served, by the application's clock.
        created_at -> Timestamptz,
        /// The provider that the host bills against; null when unknown.
        provider -> Nullable<Text>,
        /// The model that served the request, as the provider names it; null when unknown.
        model -> Nullable<Text>,
        /// The model that the client asked for; null when unknown.
        requested_model -> Nullable<Text>,
        /// The saving by caching, in microdollars; null when the provider does not say.
        cache_discount -> Nullable<Int8>,
        /// Whether the upstream answered with an error.
        has_error -> Bool,
        /// The host's abuse classification; 0 when not classified.
        abuse_classification -> Int2,
        /// The organization that pays; null for personal use.
        organization_id -> Nullable<Uuid>,
        /// The provider that ran the inference behind the billed provider; null when unknown.
        inference_provider -> Nullable<Text>,
        /// The host's project that the request belongs to; null when none.
        project_id -> Nullable<Text>,
    }
}

diesel::table! {
    /// An A/B test that swaps the upstream checkpoint behind one public model id.
    model_experiment (id) {
        /// Identifies the experiment; part of the seed that buckets its users.
        id -> Uuid,
        /// The model id that clients ask for; at most one active or paused experiment has it.
        public_model_id -> Text,
        /// The name for operators.
        name -> Text,
        /// The question that the experiment answers; null when not written down.
        description -> Nullable<Text>,
        /// The status: draft, active, paused or completed.
        status -> Text,
        /// Whether the experiment is hidden from lists; never affects routing.
        is_archived -> Bool,
        /// The host's user who created the experiment; null when unknown.
        created_by_user_id -> Nullable<Text>,
        /// The instant of creation.
        created_at -> Timestamptz,
        /// The instant of the last change of the row.
        updated_at -> Timestamptz,
        /// The instant of the first activation; null before.
        started_at -> Nullable<Timestamptz>,
        /// The instant of completion; null before.
        ended_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    /// A served request, 1:1 with its usage, and the version that served it; holds no prompt text.
    model_experiment_request (usage_id) {
        /// The usage of the request; identifies the request too.
        usage_id -> Uuid,
        /// The version that served the request.
        variant_version_id -> Uuid,
        /// What the request was bucketed by: user, machine or ip.
        allocation_subject -> Text,
        /// The id that the client gave the request; null when it gave none, not unique.
        client_request_id -> Nullable<Text>,
        /// SHA-256 of the captured system prompt in lower-case hexadecimal, or __absent__, __failed__ or __deleted__.
        system_prompt_sha256 -> Text,
        /// SHA-256 of the captured rest of the request body in lower-case hexadecimal, or __failed__ or __deleted__.
        request_body_sha256 -> Text,
        /// Whether a captured side was cut at the size cap before it was hashed.
        was_truncated -> Bool,
        /// The instant at which the request was served: its usage's created_at.
        created_at -> Timestamptz,
    }
}

diesel::table! {
    /// A variant of an experiment: users are bucketed into it, and it serves its current version.
    model_experiment_variant (id) {
        /// Identifies the variant; variants share the buckets in ascending order of it.
        id -> Uuid,
        /// The experiment that the variant belongs to.
        experiment_id -> Uuid,
        /// The name for operators; unique within its experiment, never part of bucketing.
        label -> Text,
        /// The share of users, relative to the sum of the experiment's weights.
        weight -> Int4,
        /// The instant of creation.
        created_at -> Timestamptz,
        /// The instant of the last change of the row.
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    /// The immutable upstream configuration that a variant serves from an instant on.
    model_experiment_variant_version (id) {
        /// Identifies the version; of two versions effective at the same instant the higher id is current.
        id -> Uuid,
        /// The variant that serves the version.
        variant_id -> Uuid,
        /// Where and how the checkpoint is called, as JSON; never a key.
        upstream -> Jsonb,
        /// The upstream's API key under AES-256-GCM, as JSON of base64 texts: iv, data and authTag.
        encrypted_api_key -> Jsonb,
        /// The instant from which the version is served, until a later one is effective.
        effective_at -> Timestamptz,
        /// The host's user who published the version; null when unknown.
        created_by -> Nullable<Text>,
        /// The instant at which the version was published.
        created_at -> Timestamptz,
    }
}

diesel::joinable!(model_experiment_request -> microdollar_usage (usage_id));
diesel::joinable!(model_experiment_request -> model_experiment_variant_version (variant_version_id));
diesel::joinable!(model_experiment_variant -> model_experiment (experiment_id));
diesel::joinable!(model_experiment_variant_version -> model_experiment_variant (variant_id));

diesel::allow_tables_to_appear_in_same_query!(
    microdollar_usage,
    model_experiment,
    model_experiment_request,
    model_experiment_variant,
    model_experiment_variant_version,
);
