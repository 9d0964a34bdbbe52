-- The usage ledger: one row for each served request, with its tokens and its cost.
--
-- A host that already owns `microdollar_usage` (same column names and types, `id` its primary key)
-- skips this migration. It records it as applied once, before the first `diesel migration run`:
--
--   CREATE TABLE IF NOT EXISTS __diesel_schema_migrations (
--       version varchar(50) PRIMARY KEY NOT NULL,
--       run_on timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP
--   );
--   INSERT INTO __diesel_schema_migrations (version) VALUES ('20261122000001')
--   ON CONFLICT DO NOTHING;
--
-- The following migrations refer to the host's table. Such a host must never revert this migration:
-- its down.sql drops the table.
--
-- The table is new and empty when the indexes are made.
-- diesel-guard:disable AddIndexCheck

CREATE TABLE microdollar_usage (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    kilo_user_id text NOT NULL,
    cost bigint NOT NULL,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    cache_hit_tokens bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    provider text,
    model text,
    requested_model text,
    cache_discount bigint,
    has_error boolean NOT NULL DEFAULT false,
    abuse_classification smallint NOT NULL DEFAULT 0,
    organization_id uuid,
    inference_provider text,
    project_id text
);

CREATE INDEX "IDX_microdollar_usage_created_at"
    ON microdollar_usage (created_at);
CREATE INDEX "IDX_microdollar_usage_kilo_user_id_created_at"
    ON microdollar_usage (kilo_user_id, created_at);
CREATE INDEX "IDX_microdollar_usage_organization_id"
    ON microdollar_usage (organization_id) WHERE organization_id IS NOT NULL;

COMMENT ON TABLE microdollar_usage IS
    'What a served request used and cost: the host''s billing ledger.';
COMMENT ON COLUMN microdollar_usage.id IS
    'Identifies the usage; a UUIDv7 of the application, so that inserts append to the primary key.';
COMMENT ON COLUMN microdollar_usage.kilo_user_id IS
    'The user who is billed, as the host identifies users.';
COMMENT ON COLUMN microdollar_usage.cost IS
    'The cost, in microdollars (1,000,000 to the US dollar).';
COMMENT ON COLUMN microdollar_usage.input_tokens IS
    'Tokens of the prompt, in tokens.';
COMMENT ON COLUMN microdollar_usage.output_tokens IS
    'Tokens generated, in tokens.';
COMMENT ON COLUMN microdollar_usage.cache_write_tokens IS
    'Prompt tokens written to the provider''s cache, in tokens.';
COMMENT ON COLUMN microdollar_usage.cache_hit_tokens IS
    'Prompt tokens read from the provider''s cache, in tokens.';
COMMENT ON COLUMN microdollar_usage.created_at IS
    'The instant at which the request was served, by the application''s clock.';
COMMENT ON COLUMN microdollar_usage.provider IS
    'The provider that the host bills against; null when unknown.';
COMMENT ON COLUMN microdollar_usage.model IS
    'The model that served the request, as the provider names it; null when unknown.';
COMMENT ON COLUMN microdollar_usage.requested_model IS
    'The model that the client asked for; null when unknown.';
COMMENT ON COLUMN microdollar_usage.cache_discount IS
    'The saving by caching, in microdollars; null when the provider does not say.';
COMMENT ON COLUMN microdollar_usage.has_error IS
    'Whether the upstream answered with an error.';
COMMENT ON COLUMN microdollar_usage.abuse_classification IS
    'The host''s abuse classification; 0 when not classified.';
COMMENT ON COLUMN microdollar_usage.organization_id IS
    'The organization that pays; null for personal use.';
COMMENT ON COLUMN microdollar_usage.inference_provider IS
    'The provider that ran the inference behind the billed provider; null when unknown.';
COMMENT ON COLUMN microdollar_usage.project_id IS
    'The host''s project that the request belongs to; null when none.';
