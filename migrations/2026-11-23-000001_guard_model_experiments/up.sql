-- Guards: the rules of an experiment's life hold for every writer, not only for the library.
--
-- A refusal is a check violation (SQLSTATE 23514). Its constraint names the rule. Its detail is
-- JSON that names the rows. The library turns both into the error of its own check.
--
-- No guard stands on `microdollar_usage` or `model_experiment_request`, so that recording costs
-- what it did. TRUNCATE isn't guarded: it is the owner's.
--
-- A writer of several statements locks the experiment first (SELECT ... FOR UPDATE), as the
-- operations do. Otherwise it may deadlock with an operation, which ends with a retryable error.
--
-- Existing rows must satisfy the new checks. These experiments don't:
--
--   SELECT id, status, started_at, ended_at FROM model_experiment
--   WHERE (started_at IS NULL) <> (status = 'draft') OR (ended_at IS NULL) = (status = 'completed')
--       OR ended_at < started_at OR NOT isfinite(started_at) OR NOT isfinite(ended_at);
--
-- Restoring data alone needs `--disable-triggers` or, without superuser, ALTER TABLE ... DISABLE
-- TRIGGER USER meanwhile: the rows are written in another order and at another time.
--
-- Adding the checks locks the tables while they are read. They have a row for each experiment or
-- version, not for each request, so that this takes milliseconds. Set a `lock_timeout` where a long
-- transaction may hold them.
-- diesel-guard:disable AddCheckConstraintCheck

-- The guards find these tables whatever the writer's search_path and temporary tables are.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

ALTER TABLE model_experiment
    ADD CONSTRAINT model_experiment_started_at_valid
        CHECK ((started_at IS NULL) = (status = 'draft') AND isfinite(started_at)),
    ADD CONSTRAINT model_experiment_ended_at_valid
        CHECK ((ended_at IS NULL) = (status <> 'completed') AND isfinite(ended_at) AND ended_at >= started_at);

ALTER TABLE model_experiment_variant_version
    ADD CONSTRAINT model_experiment_variant_version_effective_at_valid
        CHECK (isfinite(effective_at));

CREATE FUNCTION model_experiment_refuse(rule text, detail jsonb) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the change violates "%"', rule
        USING ERRCODE = 'check_violation', CONSTRAINT = rule, DETAIL = detail;
END
$$;

-- A change of the status and a change of variants or versions wait for each other. The lock is an
-- advisory one: where the tables are on several nodes, a row lock would reach other nodes from
-- inside the trigger. At a stricter isolation level the row is locked too, to detect that it
-- changed since the snapshot was taken.
CREATE FUNCTION model_experiment_settled_status(experiment uuid) RETURNS text
LANGUAGE plpgsql STRICT SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('model_experiment ' || id, 0))
    FROM model_experiment WHERE id = experiment;
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        PERFORM FROM model_experiment WHERE id = experiment FOR SHARE;
    END IF;
    RETURN (SELECT status FROM model_experiment WHERE id = experiment);
END
$$;

CREATE FUNCTION model_experiment_require_draft(experiment uuid) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    status text := model_experiment_settled_status(experiment);
BEGIN
    IF status <> 'draft' THEN
        PERFORM model_experiment_refuse('model_experiment_draft_only',
            jsonb_build_object('experiment', experiment, 'status', status));
    END IF;
END
$$;

CREATE FUNCTION model_experiment_require_not_completed(experiment uuid) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF model_experiment_settled_status(experiment) = 'completed' THEN
        PERFORM model_experiment_refuse('model_experiment_not_completed',
            jsonb_build_object('experiment', experiment));
    END IF;
END
$$;

CREATE FUNCTION model_experiment_require_ready(experiment uuid) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    unready record;
BEGIN
    IF NOT EXISTS (SELECT FROM model_experiment_variant WHERE experiment_id = experiment) THEN
        PERFORM model_experiment_refuse('model_experiment_ready',
            jsonb_build_object('experiment', experiment));
    END IF;
    SELECT id, label INTO unready
    FROM model_experiment_variant variant
    WHERE experiment_id = experiment AND NOT EXISTS (
        SELECT FROM model_experiment_variant_version
        WHERE variant_id = variant.id AND effective_at <= statement_timestamp()
    )
    ORDER BY id LIMIT 1;
    IF FOUND THEN
        PERFORM model_experiment_refuse('model_experiment_ready',
            jsonb_build_object('experiment', experiment, 'variant', unready.id, 'label', unready.label));
    END IF;
END
$$;

COMMENT ON FUNCTION model_experiment_refuse IS
    'Raises the error of a guard: the broken rule, and the rows.';
COMMENT ON FUNCTION model_experiment_settled_status IS
    'The status of an experiment, locked until the transaction ends; null when it does not exist.';
COMMENT ON FUNCTION model_experiment_require_draft IS
    'Refuses a change of an experiment that has left draft. One that is being deleted passes.';
COMMENT ON FUNCTION model_experiment_require_not_completed IS
    'Refuses a change of an experiment that is completed.';
COMMENT ON FUNCTION model_experiment_require_ready IS
    'Refuses an experiment without a variant, or with one that has no version that is effective.';

-- A trigger whose condition is the rule. It refuses every row that it fires on.
CREATE FUNCTION model_experiment_guard_rule() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM model_experiment_refuse(TG_ARGV[0], jsonb_build_object(
        'experiment', coalesce(OLD.id, NEW.id), 'status', coalesce(OLD.status, NEW.status)));
    RETURN NULL;
END
$$;

-- Experiments begin as drafts.

CREATE TRIGGER model_experiment_guard_insert
    AFTER INSERT ON model_experiment
    FOR EACH ROW WHEN (NEW.status <> 'draft')
    EXECUTE FUNCTION model_experiment_guard_rule('model_experiment_begins_as_draft');

-- The status changes as the lifecycle allows, and to active only when the experiment is ready. At
-- REPEATABLE READ a variant that was inserted since the snapshot would be invisible. Values that
-- are no status are left to their constraint.

CREATE FUNCTION model_experiment_guard_status() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM model_experiment_settled_status(NEW.id);
    IF (OLD.status, NEW.status) NOT IN (
        ('draft', 'active'), ('active', 'paused'), ('paused', 'active'),
        ('active', 'completed'), ('paused', 'completed')
    ) THEN
        PERFORM model_experiment_refuse('model_experiment_transition_valid',
            jsonb_build_object('experiment', NEW.id, 'from', OLD.status, 'to', NEW.status));
    END IF;
    IF NEW.status = 'active' THEN
        IF NEW.is_archived THEN
            PERFORM model_experiment_refuse('model_experiment_ready',
                jsonb_build_object('experiment', NEW.id, 'is_archived', true));
        END IF;
        IF current_setting('transaction_isolation') = 'repeatable read' THEN
            RAISE EXCEPTION 'an experiment can''t be activated at REPEATABLE READ'
                USING ERRCODE = 'feature_not_supported', HINT = 'Use READ COMMITTED or SERIALIZABLE.';
        END IF;
        PERFORM model_experiment_require_ready(NEW.id);
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER model_experiment_guard_status
    BEFORE UPDATE ON model_experiment
    FOR EACH ROW WHEN (
        OLD.status IS DISTINCT FROM NEW.status
        AND NEW.status IN ('draft', 'active', 'paused', 'completed')
    )
    EXECUTE FUNCTION model_experiment_guard_status();

CREATE TRIGGER model_experiment_guard_archived
    BEFORE UPDATE ON model_experiment
    FOR EACH ROW WHEN (OLD.status = 'active' AND NEW.status = 'active' AND NEW.is_archived)
    EXECUTE FUNCTION model_experiment_guard_rule('model_experiment_active_not_archived');

-- An experiment that has left draft stays, with its public model id. The instants at which it
-- started and ended never change.

CREATE TRIGGER model_experiment_guard_delete
    BEFORE DELETE ON model_experiment
    FOR EACH ROW WHEN (OLD.status <> 'draft')
    EXECUTE FUNCTION model_experiment_guard_rule('model_experiment_draft_only');

CREATE TRIGGER model_experiment_guard_public_model_id
    BEFORE UPDATE ON model_experiment
    FOR EACH ROW WHEN (OLD.status <> 'draft' AND OLD.public_model_id <> NEW.public_model_id)
    EXECUTE FUNCTION model_experiment_guard_rule('model_experiment_draft_only');

CREATE TRIGGER model_experiment_guard_instants
    BEFORE UPDATE ON model_experiment
    FOR EACH ROW WHEN (OLD.started_at <> NEW.started_at OR OLD.ended_at <> NEW.ended_at)
    EXECUTE FUNCTION model_experiment_guard_rule('model_experiment_instants_kept');

-- The ids of experiments and variants never change: users are bucketed by them.

CREATE TRIGGER model_experiment_guard_identity
    BEFORE UPDATE ON model_experiment
    FOR EACH ROW WHEN (OLD.id <> NEW.id)
    EXECUTE FUNCTION model_experiment_guard_rule('model_experiment_identity_kept');

CREATE FUNCTION model_experiment_variant_guard_identity() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM model_experiment_refuse('model_experiment_identity_kept',
        jsonb_build_object('variant', OLD.id));
    RETURN NULL;
END
$$;

CREATE TRIGGER model_experiment_variant_guard_identity
    BEFORE UPDATE ON model_experiment_variant
    FOR EACH ROW WHEN ((OLD.id, OLD.experiment_id) <> (NEW.id, NEW.experiment_id))
    EXECUTE FUNCTION model_experiment_variant_guard_identity();

-- The variants of a draft may be added, removed and changed. Later only labels change, until
-- completion.
--
-- These triggers are AFTER triggers, so that the foreign key's wait for the experiment's row comes
-- first. A writer that waited there with the status already locked would deadlock with the row's
-- holder.

CREATE FUNCTION model_experiment_variant_guard_structure() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM model_experiment_require_draft(
        CASE TG_OP WHEN 'DELETE' THEN OLD.experiment_id ELSE NEW.experiment_id END);
    RETURN NULL;
END
$$;

CREATE TRIGGER model_experiment_variant_guard_structure
    AFTER INSERT OR DELETE ON model_experiment_variant
    FOR EACH ROW EXECUTE FUNCTION model_experiment_variant_guard_structure();

CREATE TRIGGER model_experiment_variant_guard_weight
    AFTER UPDATE ON model_experiment_variant
    FOR EACH ROW WHEN (OLD.weight <> NEW.weight)
    EXECUTE FUNCTION model_experiment_variant_guard_structure();

CREATE FUNCTION model_experiment_variant_guard_label() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM model_experiment_require_not_completed(NEW.experiment_id);
    RETURN NULL;
END
$$;

CREATE TRIGGER model_experiment_variant_guard_label
    AFTER UPDATE ON model_experiment_variant
    FOR EACH ROW WHEN (OLD.label <> NEW.label)
    EXECUTE FUNCTION model_experiment_variant_guard_label();

-- Versions are published until the experiment is completed, and never for an instant before they
-- are made. The row's created_at says when it was made: a default, evaluated once also where the
-- tables are on several nodes. The nodes' clocks may differ by less than a minute.

CREATE FUNCTION model_experiment_variant_version_guard_insert() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET TimeZone = 'UTC' AS $$
BEGIN
    PERFORM model_experiment_require_not_completed(experiment_id)
    FROM model_experiment_variant WHERE id = NEW.variant_id;
    IF NEW.effective_at < NEW.created_at OR NEW.created_at < now() - interval '1 minute' THEN
        PERFORM model_experiment_refuse('model_experiment_variant_version_not_backdated',
            jsonb_build_object('variant', NEW.variant_id, 'effective_at', NEW.effective_at, 'now', now()));
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER model_experiment_variant_version_guard_insert
    AFTER INSERT ON model_experiment_variant_version
    FOR EACH ROW EXECUTE FUNCTION model_experiment_variant_version_guard_insert();

-- Versions never change, and are deleted only with a draft. A host's foreign key may set created_by
-- to null when it deletes the user: it runs inside a trigger.

CREATE FUNCTION model_experiment_variant_version_guard_update() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM model_experiment_refuse('model_experiment_variant_version_immutable',
        jsonb_build_object('version', OLD.id));
    RETURN NULL;
END
$$;

CREATE TRIGGER model_experiment_variant_version_guard_update
    BEFORE UPDATE ON model_experiment_variant_version
    FOR EACH ROW WHEN (
        pg_trigger_depth() = 0
        OR (OLD.id, OLD.variant_id, OLD.upstream, OLD.encrypted_api_key, OLD.effective_at, OLD.created_at)
            <> (NEW.id, NEW.variant_id, NEW.upstream, NEW.encrypted_api_key, NEW.effective_at, NEW.created_at)
    )
    EXECUTE FUNCTION model_experiment_variant_version_guard_update();

CREATE FUNCTION model_experiment_variant_version_guard_delete() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM model_experiment_require_draft(experiment_id)
    FROM model_experiment_variant WHERE id = OLD.variant_id;
    RETURN NULL;
END
$$;

CREATE TRIGGER model_experiment_variant_version_guard_delete
    AFTER DELETE ON model_experiment_variant_version
    FOR EACH ROW EXECUTE FUNCTION model_experiment_variant_version_guard_delete();

-- An update that sets no updated_at gets the current instant. The library sets it, so that the
-- copies of a row agree where the table is on several nodes.

CREATE FUNCTION model_experiment_set_updated_at() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := statement_timestamp();
    RETURN NEW;
END
$$;

CREATE TRIGGER model_experiment_set_updated_at
    BEFORE UPDATE ON model_experiment
    FOR EACH ROW WHEN (OLD.updated_at = NEW.updated_at)
    EXECUTE FUNCTION model_experiment_set_updated_at();

CREATE TRIGGER model_experiment_variant_set_updated_at
    BEFORE UPDATE ON model_experiment_variant
    FOR EACH ROW WHEN (OLD.updated_at = NEW.updated_at)
    EXECUTE FUNCTION model_experiment_set_updated_at();
