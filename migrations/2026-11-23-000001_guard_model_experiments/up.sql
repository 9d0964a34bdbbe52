-- Guards: the rules of an experiment's life hold for every writer, not only for the library.
--
-- A refusal is a check violation (SQLSTATE 23514). Its constraint names the rule. Its detail is
-- JSON that names the rows. The library turns both into the error of its own check.
--
-- Guards are AFTER triggers, so that they see what was written, also by a BEFORE trigger of the
-- host. Only the owner of a table, or a superuser, gets past them: by disabling triggers, or by
-- `session_replication_role`.
--
-- Insertions of `model_experiment_request` fire no trigger, so that recording costs what it did. No
-- guard stands on `microdollar_usage`.
--
-- Functions run as their owner. They look for tables in the schema of the trigger's table, also
-- after the schema was renamed, and refuse a table of another owner. After ALTER TABLE ... OWNER
-- TO, change the owner of the functions too. Functions of pg_catalog that take arguments of any
-- type are called by their qualified name: another function of that name in the schema could fit
-- better. The owner of a table is read from its row type: Citus hides shards in pg_class.
--
-- A writer of several statements locks the experiment first (SELECT ... FOR UPDATE), as the
-- operations do. Otherwise it may deadlock with an operation, which ends with a retryable error.
--
-- Existing rows must satisfy the new checks. These experiments don't:
--
--   SELECT id, status, started_at, ended_at FROM model_experiment
--   WHERE (started_at IS NULL) <> (status = 'draft') OR (ended_at IS NULL) = (status = 'completed')
--       OR ended_at < started_at;
--
-- Restoring data alone needs `--disable-triggers` or, without superuser, ALTER TABLE ... DISABLE
-- TRIGGER USER meanwhile: the rows are written in another order and at another time.
--
-- Adding the checks locks the tables while they are read. They have a row for each experiment or
-- version, not for each request, so that this takes milliseconds. Set a `lock_timeout` where a long
-- transaction may hold them.
-- diesel-guard:disable AddCheckConstraintCheck

-- A trigger whose condition is the rule: it refuses every row that it fires on. The arguments are
-- the rule, and what the row is.
CREATE FUNCTION model_experiment_guard_rule() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    refused jsonb := pg_catalog.to_jsonb(coalesce(OLD, NEW));
BEGIN
    RAISE EXCEPTION 'the change violates "%"', TG_ARGV[0] USING
        ERRCODE = 'check_violation', CONSTRAINT = TG_ARGV[0],
        DETAIL = pg_catalog.jsonb_build_object(
            TG_ARGV[1], refused -> 'id', 'status', refused -> 'status');
END
$$;

-- A trigger whose rule is on the experiment that a row belongs to. The arguments are the rule, and
-- what the row is. An experiment that is being deleted has no status, and passes.
CREATE FUNCTION model_experiment_guard() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changed record := coalesce(NEW, OLD);
    experiment uuid;
    current_status text;
    unready record;
    broken text;
    detail jsonb;
BEGIN
    PERFORM set_config('search_path', quote_ident(TG_TABLE_SCHEMA) || ', pg_temp', true)
    FROM pg_type WHERE oid = TG_RELID::regclass::text::regtype AND typrelid = TG_RELID
        AND pg_get_userbyid(typowner) = current_user;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the functions model_experiment_* have another owner than the table'
            USING ERRCODE = 'insufficient_privilege';
    END IF;

    IF TG_ARGV[1] = 'experiment' THEN
        experiment := changed.id;
    ELSIF TG_ARGV[1] = 'variant' THEN
        experiment := changed.experiment_id;
    ELSE
        SELECT experiment_id INTO experiment
        FROM model_experiment_variant WHERE id = changed.variant_id;
    END IF;

    -- A change of the status and a change of variants or versions wait for each other. Where the
    -- tables are on several nodes, a row lock would reach other nodes from inside the trigger.
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN
        PERFORM pg_advisory_xact_lock(hashtextextended('model_experiment ' || experiment::text, 0::bigint));
        SELECT status INTO current_status FROM model_experiment WHERE id = experiment;
    ELSE
        SELECT status INTO current_status FROM model_experiment WHERE id = experiment
        FOR NO KEY UPDATE;
    END IF;
    detail := pg_catalog.jsonb_build_object('experiment', experiment, 'status', current_status);

    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        -- What was committed since the snapshot would be overlooked.
        broken := 'model_experiment_read_committed';
        detail := detail || pg_catalog.jsonb_build_object(
            'isolation', current_setting('transaction_isolation'));
    ELSIF TG_ARGV[0] = 'require_draft' AND current_status <> 'draft' THEN
        broken := 'model_experiment_draft_only';
    ELSIF TG_ARGV[0] = 'require_not_completed' AND current_status = 'completed' THEN
        broken := 'model_experiment_not_completed';
    ELSIF TG_ARGV[0] = 'require_transition' THEN
        IF (OLD.status, NEW.status) NOT IN (
            ('draft', 'active'), ('active', 'paused'), ('paused', 'active'),
            ('active', 'completed'), ('paused', 'completed')
        ) THEN
            broken := 'model_experiment_transition_valid';
            detail := detail || pg_catalog.jsonb_build_object('from', OLD.status, 'to', NEW.status);
        ELSIF NEW.status = 'active' THEN
            SELECT variant.id, variant.label INTO unready
            FROM model_experiment
            LEFT JOIN model_experiment_variant variant ON experiment_id = model_experiment.id
            WHERE model_experiment.id = experiment AND NOT EXISTS (
                SELECT FROM model_experiment_variant_version
                WHERE variant_id = variant.id
                    AND (effective_at <= statement_timestamp() OR effective_at <= created_at)
            )
            ORDER BY variant.id LIMIT 1;
            IF FOUND THEN
                broken := 'model_experiment_ready';
                detail := detail || pg_catalog.jsonb_build_object(
                    'variant', unready.id, 'label', unready.label);
            END IF;
        END IF;
    END IF;

    IF broken IS NOT NULL THEN
        RAISE EXCEPTION 'the change violates "%"', broken
            USING ERRCODE = 'check_violation', CONSTRAINT = broken, DETAIL = detail;
    END IF;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION model_experiment_guard_rule IS
    'Refuses every row that its trigger fires on.';
COMMENT ON FUNCTION model_experiment_guard IS
    'Refuses a change that the status of the row''s experiment does not allow.';

CREATE FUNCTION model_experiment_variant_version_guard_instants() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET TimeZone = 'UTC' AS $$
DECLARE
    clock timestamptz := clock_timestamp();
    newest timestamptz;
    broken text;
BEGIN
    PERFORM set_config('search_path', quote_ident(TG_TABLE_SCHEMA) || ', pg_temp', true)
    FROM pg_type WHERE oid = TG_RELID::regclass::text::regtype AND typrelid = TG_RELID
        AND pg_get_userbyid(typowner) = current_user;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the functions model_experiment_* have another owner than the table'
            USING ERRCODE = 'insufficient_privilege';
    END IF;

    SELECT effective_at INTO newest
    FROM model_experiment_variant_version
    WHERE variant_id = NEW.variant_id AND id <> NEW.id
        AND (effective_at <= clock OR effective_at <= created_at)
    ORDER BY effective_at DESC LIMIT 1;

    IF NEW.effective_at < greatest(NEW.created_at, newest, clock - interval '30 seconds')
        OR NEW.created_at < clock - interval '1 minute'
    THEN
        broken := 'model_experiment_variant_version_not_backdated';
    ELSIF NEW.created_at > greatest(clock, newest) + interval '1 minute' THEN
        broken := 'model_experiment_variant_version_not_postdated';
    END IF;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION 'the change violates "%"', broken USING
            ERRCODE = 'check_violation', CONSTRAINT = broken,
            DETAIL = pg_catalog.jsonb_build_object('variant', NEW.variant_id,
                'effective_at', NEW.effective_at, 'now', greatest(clock, newest));
    END IF;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION model_experiment_variant_version_guard_instants IS
    'Refuses a version that would change what was current in the past, or was made in the future.';

CREATE FUNCTION model_experiment_variant_version_guard_commit() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET TimeZone = 'UTC' AS $$
BEGIN
    IF NEW.effective_at < clock_timestamp() - interval '30 seconds' THEN
        RAISE EXCEPTION 'the change violates "model_experiment_variant_version_not_backdated"' USING
            ERRCODE = 'check_violation',
            CONSTRAINT = 'model_experiment_variant_version_not_backdated',
            DETAIL = pg_catalog.jsonb_build_object('variant', NEW.variant_id,
                'effective_at', NEW.effective_at, 'now', clock_timestamp());
    END IF;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION model_experiment_variant_version_guard_commit IS
    'Refuses the commit of a version that became effective too long ago.';

-- The table of usages is found by the foreign key: it may be the host's, in another schema.
CREATE FUNCTION model_experiment_request_guard_delete() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    usage_table regclass;
    has_usage boolean;
BEGIN
    SELECT confrelid INTO usage_table
    FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]
    WHERE conrelid = TG_RELID AND contype = 'f' AND attname = 'usage_id';
    EXECUTE 'SELECT EXISTS (SELECT FROM ' || usage_table::text || ' WHERE id = $1)'
        INTO has_usage USING OLD.usage_id;
    IF has_usage THEN
        RAISE EXCEPTION 'the change violates "model_experiment_request_kept"' USING
            ERRCODE = 'check_violation', CONSTRAINT = 'model_experiment_request_kept',
            DETAIL = pg_catalog.jsonb_build_object('request', OLD.usage_id);
    END IF;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION model_experiment_request_guard_delete IS
    'Refuses the deletion of a request whose usage stays.';

CREATE FUNCTION model_experiment_set_updated_at() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.updated_at := statement_timestamp();
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION model_experiment_set_updated_at IS
    'Sets updated_at to the current instant.';

-- Nobody but the owner makes a trigger of these functions. Firing one needs no privilege.
REVOKE EXECUTE ON FUNCTION
    model_experiment_guard_rule, model_experiment_guard,
    model_experiment_variant_version_guard_instants,
    model_experiment_variant_version_guard_commit,
    model_experiment_request_guard_delete, model_experiment_set_updated_at
FROM PUBLIC;

-- Citus refuses triggers on distributed tables without the setting, which PostgreSQL alone ignores.
-- It also refuses several changes of a table in one ALTER TABLE, and in one query, as Diesel sends
-- a file. In a block each statement is a query of its own.
SET LOCAL citus.enable_unsafe_triggers TO on;

DO $$
BEGIN
    ALTER TABLE model_experiment
        ADD CONSTRAINT model_experiment_started_at_valid
            CHECK ((started_at IS NULL) = (status = 'draft'));
    ALTER TABLE model_experiment
        ADD CONSTRAINT model_experiment_ended_at_valid
            CHECK ((ended_at IS NULL) = (status <> 'completed') AND ended_at >= started_at);

    -- Experiments begin as drafts.

    CREATE TRIGGER model_experiment_guard_insert
        AFTER INSERT ON model_experiment
        FOR EACH ROW WHEN (NEW.status <> 'draft')
        EXECUTE FUNCTION model_experiment_guard_rule('model_experiment_begins_as_draft', 'experiment');

    -- The status changes as the lifecycle allows, and to active only when the experiment is ready:
    -- each variant has a version that is effective, or was when it was made. Values that are no
    -- status are left to their constraint.

    CREATE TRIGGER model_experiment_guard_status
        AFTER UPDATE ON model_experiment
        FOR EACH ROW WHEN (
            OLD.status IS DISTINCT FROM NEW.status
            AND NEW.status IN ('draft', 'active', 'paused', 'completed')
        )
        EXECUTE FUNCTION model_experiment_guard('require_transition', 'experiment');

    -- An experiment that has left draft stays, with its public model id. The instants at which it
    -- started and ended never change.

    CREATE TRIGGER model_experiment_guard_delete
        AFTER DELETE ON model_experiment
        FOR EACH ROW WHEN (OLD.status <> 'draft')
        EXECUTE FUNCTION model_experiment_guard_rule('model_experiment_draft_only', 'experiment');

    CREATE TRIGGER model_experiment_guard_public_model_id
        AFTER UPDATE ON model_experiment
        FOR EACH ROW WHEN (OLD.status <> 'draft' AND OLD.public_model_id <> NEW.public_model_id)
        EXECUTE FUNCTION model_experiment_guard_rule('model_experiment_draft_only', 'experiment');

    CREATE TRIGGER model_experiment_guard_instants
        AFTER UPDATE ON model_experiment
        FOR EACH ROW WHEN (OLD.started_at <> NEW.started_at OR OLD.ended_at <> NEW.ended_at)
        EXECUTE FUNCTION model_experiment_guard_rule('model_experiment_instants_kept', 'experiment');

    -- The ids of experiments and variants never change: users are bucketed by them. Nor does it
    -- change who made a row and when; only the name of the user may be cleared.

    CREATE TRIGGER model_experiment_guard_identity
        AFTER UPDATE ON model_experiment
        FOR EACH ROW WHEN (
            OLD.id <> NEW.id OR OLD.created_at <> NEW.created_at
            OR OLD.created_by_user_id IS DISTINCT FROM NEW.created_by_user_id
                AND NEW.created_by_user_id IS NOT NULL
        )
        EXECUTE FUNCTION model_experiment_guard_rule('model_experiment_identity_kept', 'experiment');

    CREATE TRIGGER model_experiment_variant_guard_identity
        AFTER UPDATE ON model_experiment_variant
        FOR EACH ROW WHEN (
            (OLD.id, OLD.experiment_id, OLD.created_at) <> (NEW.id, NEW.experiment_id, NEW.created_at)
        )
        EXECUTE FUNCTION model_experiment_guard_rule('model_experiment_identity_kept', 'variant');

    -- The variants of a draft may be added, removed and changed. Later only labels change, until
    -- completion.

    CREATE TRIGGER model_experiment_variant_guard_structure
        AFTER INSERT OR DELETE ON model_experiment_variant
        FOR EACH ROW EXECUTE FUNCTION model_experiment_guard('require_draft', 'variant');

    CREATE TRIGGER model_experiment_variant_guard_weight
        AFTER UPDATE ON model_experiment_variant
        FOR EACH ROW WHEN (OLD.weight <> NEW.weight)
        EXECUTE FUNCTION model_experiment_guard('require_draft', 'variant');

    CREATE TRIGGER model_experiment_variant_guard_label
        AFTER UPDATE ON model_experiment_variant
        FOR EACH ROW WHEN (OLD.label <> NEW.label)
        EXECUTE FUNCTION model_experiment_guard('require_not_completed', 'variant');

    -- Versions are published until the experiment is completed. They never change, except that the
    -- name of the user may be cleared, and are deleted only with a draft.

    CREATE TRIGGER model_experiment_variant_version_guard_insert
        AFTER INSERT ON model_experiment_variant_version
        FOR EACH ROW EXECUTE FUNCTION model_experiment_guard('require_not_completed', 'version');

    CREATE TRIGGER model_experiment_variant_version_guard_update
        AFTER UPDATE ON model_experiment_variant_version
        FOR EACH ROW WHEN (
            OLD.id <> NEW.id OR OLD.variant_id <> NEW.variant_id
            OR OLD.upstream <> NEW.upstream OR OLD.encrypted_api_key <> NEW.encrypted_api_key
            OR OLD.effective_at <> NEW.effective_at OR OLD.created_at <> NEW.created_at
            OR OLD.created_by IS DISTINCT FROM NEW.created_by AND NEW.created_by IS NOT NULL
        )
        EXECUTE FUNCTION model_experiment_guard_rule('model_experiment_variant_version_immutable', 'version');

    CREATE TRIGGER model_experiment_variant_version_guard_delete
        AFTER DELETE ON model_experiment_variant_version
        FOR EACH ROW EXECUTE FUNCTION model_experiment_guard('require_draft', 'version');

    -- What was current at an instant is settled one minute later. A version is inserted at most 30
    -- seconds after it became effective, and after every version that is effective already. It is
    -- checked again when its transaction commits, and a commit has the other 30 seconds. SET
    -- CONSTRAINTS ALL IMMEDIATE and prepared transactions get past the second check.
    --
    -- `created_at` says whether a version was effective when it was made, whatever the clock did
    -- since. It is the instant of the insertion or, after the clock was set back, an instant next
    -- to that of the version before. Clocks of several nodes may differ by less than a minute.

    CREATE TRIGGER model_experiment_variant_version_guard_instants
        AFTER INSERT ON model_experiment_variant_version
        FOR EACH ROW EXECUTE FUNCTION model_experiment_variant_version_guard_instants();

    CREATE CONSTRAINT TRIGGER model_experiment_variant_version_guard_commit
        AFTER INSERT ON model_experiment_variant_version
        DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION model_experiment_variant_version_guard_commit();

    -- A request says for good which version served it, and when. What may be wiped: a hash, by the
    -- sentinel of a deleted prompt, and the id that the client gave. A request is deleted with its
    -- usage alone.

    CREATE TRIGGER model_experiment_request_guard_update
        AFTER UPDATE ON model_experiment_request
        FOR EACH ROW WHEN (
            OLD.usage_id <> NEW.usage_id OR OLD.variant_version_id <> NEW.variant_version_id
            OR OLD.allocation_subject <> NEW.allocation_subject
            OR OLD.was_truncated <> NEW.was_truncated OR OLD.created_at <> NEW.created_at
            OR OLD.client_request_id IS DISTINCT FROM NEW.client_request_id
                AND NEW.client_request_id IS NOT NULL
            OR OLD.system_prompt_sha256 <> NEW.system_prompt_sha256
                AND NEW.system_prompt_sha256 <> '__deleted__'
            OR OLD.request_body_sha256 <> NEW.request_body_sha256
                AND NEW.request_body_sha256 <> '__deleted__'
        )
        EXECUTE FUNCTION model_experiment_guard_rule('model_experiment_request_kept', 'request');

    CREATE TRIGGER model_experiment_request_guard_delete
        AFTER DELETE ON model_experiment_request
        FOR EACH ROW EXECUTE FUNCTION model_experiment_request_guard_delete();

    -- None of the tables is emptied.

    CREATE TRIGGER model_experiment_guard_truncate
        BEFORE TRUNCATE ON model_experiment
        EXECUTE FUNCTION model_experiment_guard_rule('model_experiment_not_truncated', 'table');
    CREATE TRIGGER model_experiment_variant_guard_truncate
        BEFORE TRUNCATE ON model_experiment_variant
        EXECUTE FUNCTION model_experiment_guard_rule('model_experiment_not_truncated', 'table');
    CREATE TRIGGER model_experiment_variant_version_guard_truncate
        BEFORE TRUNCATE ON model_experiment_variant_version
        EXECUTE FUNCTION model_experiment_guard_rule('model_experiment_not_truncated', 'table');
    CREATE TRIGGER model_experiment_request_guard_truncate
        BEFORE TRUNCATE ON model_experiment_request
        EXECUTE FUNCTION model_experiment_guard_rule('model_experiment_not_truncated', 'table');

    -- An update that sets no updated_at gets the current instant. The library sets it, so that the
    -- copies of a row agree where the table is on several nodes.

    CREATE TRIGGER model_experiment_set_updated_at
        BEFORE UPDATE ON model_experiment
        FOR EACH ROW WHEN (OLD.updated_at = NEW.updated_at)
        EXECUTE FUNCTION model_experiment_set_updated_at();

    CREATE TRIGGER model_experiment_variant_set_updated_at
        BEFORE UPDATE ON model_experiment_variant
        FOR EACH ROW WHEN (OLD.updated_at = NEW.updated_at)
        EXECUTE FUNCTION model_experiment_set_updated_at();
END
$$;
