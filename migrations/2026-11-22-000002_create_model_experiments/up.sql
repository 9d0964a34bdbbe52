-- Experiments, their variants, the variants' immutable versions, and the requests they served.
--
-- A deployment that already has these tables, with these names of columns and constraints, skips
-- this migration too, by its version 20261122000002. The header of the one before says how.
--
-- The hash checks write "64 lower-case hexadecimal digits" as a length and a negated class. They
-- accept exactly what '^[0-9a-f]{64}$' accepts, at a tenth of the cost for each recorded request.
--
-- `created_by_user_id` and `created_by` hold ids of the host's users. A host with a users table
-- adds the foreign keys itself.
--
-- The tables are new and empty when the indexes are made.
-- diesel-guard:disable AddIndexCheck

CREATE TABLE model_experiment (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    public_model_id text NOT NULL,
    name text NOT NULL,
    description text,
    status text NOT NULL DEFAULT 'draft',
    is_archived boolean NOT NULL DEFAULT false,
    created_by_user_id text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    ended_at timestamptz,
    CONSTRAINT model_experiment_status_valid
        CHECK (status IN ('draft', 'active', 'paused', 'completed')),
    CONSTRAINT model_experiment_active_not_archived
        CHECK (NOT (status = 'active' AND is_archived))
);

CREATE UNIQUE INDEX "UQ_model_experiment_public_model_id_routing"
    ON model_experiment (public_model_id) WHERE status IN ('active', 'paused');
CREATE INDEX "IDX_model_experiment_status"
    ON model_experiment (status);

COMMENT ON TABLE model_experiment IS
    'An A/B test that swaps the upstream checkpoint behind one public model id.';
COMMENT ON COLUMN model_experiment.id IS
    'Identifies the experiment; part of the seed that buckets its users.';
COMMENT ON COLUMN model_experiment.public_model_id IS
    'The model id that clients ask for; at most one active or paused experiment has it.';
COMMENT ON COLUMN model_experiment.name IS
    'The name for operators.';
COMMENT ON COLUMN model_experiment.description IS
    'The question that the experiment answers; null when not written down.';
COMMENT ON COLUMN model_experiment.status IS
    'The status: draft, active, paused or completed.';
COMMENT ON COLUMN model_experiment.is_archived IS
    'Whether the experiment is hidden from lists; never affects routing.';
COMMENT ON COLUMN model_experiment.created_by_user_id IS
    'The host''s user who created the experiment; null when unknown.';
COMMENT ON COLUMN model_experiment.created_at IS
    'The instant of creation.';
COMMENT ON COLUMN model_experiment.updated_at IS
    'The instant of the last change of the row.';
COMMENT ON COLUMN model_experiment.started_at IS
    'The instant of the first activation; null before.';
COMMENT ON COLUMN model_experiment.ended_at IS
    'The instant of completion; null before.';

CREATE TABLE model_experiment_variant (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    experiment_id uuid NOT NULL,
    label text NOT NULL,
    weight integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT model_experiment_variant_experiment_id_fkey
        FOREIGN KEY (experiment_id) REFERENCES model_experiment (id) ON DELETE CASCADE,
    CONSTRAINT "UQ_model_experiment_variant_experiment_label"
        UNIQUE (experiment_id, label),
    CONSTRAINT model_experiment_variant_weight_positive
        CHECK (weight > 0)
);

CREATE INDEX "IDX_model_experiment_variant_experiment_id"
    ON model_experiment_variant (experiment_id);

COMMENT ON TABLE model_experiment_variant IS
    'A variant of an experiment: users are bucketed into it, and it serves its current version.';
COMMENT ON COLUMN model_experiment_variant.id IS
    'Identifies the variant; variants share the buckets in ascending order of it.';
COMMENT ON COLUMN model_experiment_variant.experiment_id IS
    'The experiment that the variant belongs to.';
COMMENT ON COLUMN model_experiment_variant.label IS
    'The name for operators; unique within its experiment, never part of bucketing.';
COMMENT ON COLUMN model_experiment_variant.weight IS
    'The share of users, relative to the sum of the experiment''s weights.';
COMMENT ON COLUMN model_experiment_variant.created_at IS
    'The instant of creation.';
COMMENT ON COLUMN model_experiment_variant.updated_at IS
    'The instant of the last change of the row.';

CREATE TABLE model_experiment_variant_version (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    variant_id uuid NOT NULL,
    upstream jsonb NOT NULL,
    encrypted_api_key jsonb NOT NULL,
    effective_at timestamptz NOT NULL DEFAULT now(),
    created_by text,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT model_experiment_variant_version_variant_id_fkey
        FOREIGN KEY (variant_id) REFERENCES model_experiment_variant (id) ON DELETE CASCADE
);

CREATE INDEX "IDX_model_experiment_variant_version_variant_effective"
    ON model_experiment_variant_version (variant_id, effective_at DESC);

COMMENT ON TABLE model_experiment_variant_version IS
    'The immutable upstream configuration that a variant serves from an instant on.';
COMMENT ON COLUMN model_experiment_variant_version.id IS
    'Identifies the version; of two versions effective at the same instant the higher id is current.';
COMMENT ON COLUMN model_experiment_variant_version.variant_id IS
    'The variant that serves the version.';
COMMENT ON COLUMN model_experiment_variant_version.upstream IS
    'Where and how the checkpoint is called, as JSON; never a key.';
COMMENT ON COLUMN model_experiment_variant_version.encrypted_api_key IS
    'The upstream''s API key under AES-256-GCM, as JSON of base64 texts: iv, data and authTag.';
COMMENT ON COLUMN model_experiment_variant_version.effective_at IS
    'The instant from which the version is served, until a later one is effective.';
COMMENT ON COLUMN model_experiment_variant_version.created_by IS
    'The host''s user who published the version; null when unknown.';
COMMENT ON COLUMN model_experiment_variant_version.created_at IS
    'The instant at which the version was published.';

CREATE TABLE model_experiment_request (
    usage_id uuid PRIMARY KEY,
    variant_version_id uuid NOT NULL,
    allocation_subject text NOT NULL,
    client_request_id text,
    system_prompt_sha256 text NOT NULL,
    request_body_sha256 text NOT NULL,
    was_truncated boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT model_experiment_request_usage_id_fkey
        FOREIGN KEY (usage_id) REFERENCES microdollar_usage (id) ON DELETE CASCADE,
    CONSTRAINT model_experiment_request_variant_version_id_fkey
        FOREIGN KEY (variant_version_id) REFERENCES model_experiment_variant_version (id),
    CONSTRAINT model_experiment_request_allocation_subject_valid
        CHECK (allocation_subject IN ('user', 'machine', 'ip')),
    CONSTRAINT model_experiment_request_system_prompt_sha256_format
        CHECK ((octet_length(system_prompt_sha256) = 64 AND system_prompt_sha256 !~ '[^0-9a-f]')
            OR system_prompt_sha256 IN ('__absent__', '__failed__', '__deleted__')),
    CONSTRAINT model_experiment_request_request_body_sha256_format
        CHECK ((octet_length(request_body_sha256) = 64 AND request_body_sha256 !~ '[^0-9a-f]')
            OR request_body_sha256 IN ('__failed__', '__deleted__'))
);

CREATE INDEX "IDX_model_experiment_request_variant_version_created_at"
    ON model_experiment_request (variant_version_id, created_at);
CREATE INDEX "IDX_model_experiment_request_client_request_id"
    ON model_experiment_request (client_request_id) WHERE client_request_id IS NOT NULL;

COMMENT ON TABLE model_experiment_request IS
    'A served request, 1:1 with its usage, and the version that served it; holds no prompt text.';
COMMENT ON COLUMN model_experiment_request.usage_id IS
    'The usage of the request; identifies the request too.';
COMMENT ON COLUMN model_experiment_request.variant_version_id IS
    'The version that served the request.';
COMMENT ON COLUMN model_experiment_request.allocation_subject IS
    'What the request was bucketed by: user, machine or ip.';
COMMENT ON COLUMN model_experiment_request.client_request_id IS
    'The id that the client gave the request; null when it gave none, not unique.';
COMMENT ON COLUMN model_experiment_request.system_prompt_sha256 IS
    'SHA-256 of the captured system prompt in lower-case hexadecimal, or __absent__, __failed__ or __deleted__.';
COMMENT ON COLUMN model_experiment_request.request_body_sha256 IS
    'SHA-256 of the captured rest of the request body in lower-case hexadecimal, or __failed__ or __deleted__.';
COMMENT ON COLUMN model_experiment_request.was_truncated IS
    'Whether a captured side was cut at the size cap before it was hashed.';
COMMENT ON COLUMN model_experiment_request.created_at IS
    'The instant at which the request was served: its usage''s created_at.';
