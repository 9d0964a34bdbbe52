-- Guards: what may not become of an experiment, whoever writes it.
--
-- A refusal is a check violation (SQLSTATE 23514). Its constraint name says which rule was broken, its detail of what,
-- as JSON; the library turns both into the error of its own check. Nothing guards `microdollar_usage` or
-- `model_experiment_request`: recording costs what it did.
--
-- Rows that are there already must agree with the two new checks. These don't:
--
--   SELECT id, status, started_at, ended_at FROM model_experiment
--   WHERE (started_at IS NULL) <> (status = 'draft') OR (ended_at IS NULL) = (status = 'completed');
--
-- Restoring data alone needs `--disable-triggers`: its rows were written in another order and at another time.
--
-- The checks are made of a table that has a row for each experiment, not for each request: it is locked for
-- milliseconds.
-- diesel-guard:disable AddCheckConstraintCheck

ALTER TABLE model_experiment
    ADD CONSTRAINT model_experiment_started_at_valid
        CHECK ((started_at IS NULL) = (status = 'draft')),
    ADD CONSTRAINT model_experiment_ended_at_valid
        CHECK ((ended_at IS NULL) = (status <> 'completed'));

CREATE FUNCTION model_experiment_refuse(rule text, detail jsonb) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the change violates "%"', rule
        USING ERRCODE = 'check_violation', CONSTRAINT = rule, DETAIL = detail;
END
$$;

-- Who changes the status and who changes variants or versions wait for each other. The lock is an advisory one: where
-- the tables are on several nodes, a row lock would reach for the others from inside the trigger.
CREATE FUNCTION model_experiment_settled_status(experiment uuid) RETURNS text
LANGUAGE plpgsql STRICT SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('model_experiment ' || experiment, 0));
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

COMMENT ON FUNCTION model_experiment_refuse IS
    'Raises a guard''s error: the rule that was broken, and of what.';
COMMENT ON FUNCTION model_experiment_settled_status IS
    'The status of an experiment, which stays so until the transaction ends; null when there is no such experiment.';
COMMENT ON FUNCTION model_experiment_require_draft IS
    'Refuses a change of an experiment that has left draft. One that is being deleted takes all it has with it.';
COMMENT ON FUNCTION model_experiment_require_not_completed IS
    'Refuses a change of an experiment that is completed.';

-- An experiment begins as a draft. A status that there isn't is left to its own constraint.

CREATE FUNCTION model_experiment_guard_insert() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM model_experiment_refuse('model_experiment_begins_as_draft',
        jsonb_build_object('experiment', NEW.id, 'status', NEW.status));
    RETURN NULL;
END
$$;

CREATE TRIGGER model_experiment_guard_insert
    BEFORE INSERT ON model_experiment
    FOR EACH ROW WHEN (NEW.status IN ('active', 'paused', 'completed'))
    EXECUTE FUNCTION model_experiment_guard_insert();

-- Its status changes as its life goes, and to active only when it lacks nothing.

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

CREATE FUNCTION model_experiment_guard_status() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
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

COMMENT ON FUNCTION model_experiment_require_ready IS
    'Refuses to activate an experiment without a variant, or with one that has no version that is effective.';

-- Once it has left draft, it stays, and so does its public model id; when it started and ended never changes.

CREATE FUNCTION model_experiment_guard_draft() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM model_experiment_refuse('model_experiment_draft_only',
        jsonb_build_object('experiment', OLD.id, 'status', OLD.status));
    RETURN NULL;
END
$$;

CREATE TRIGGER model_experiment_guard_delete
    BEFORE DELETE ON model_experiment
    FOR EACH ROW WHEN (OLD.status <> 'draft')
    EXECUTE FUNCTION model_experiment_guard_draft();

CREATE TRIGGER model_experiment_guard_identity
    BEFORE UPDATE ON model_experiment
    FOR EACH ROW WHEN (
        OLD.status <> 'draft' AND (OLD.id, OLD.public_model_id) <> (NEW.id, NEW.public_model_id)
    )
    EXECUTE FUNCTION model_experiment_guard_draft();

CREATE FUNCTION model_experiment_guard_instants() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM model_experiment_refuse('model_experiment_instants_kept',
        jsonb_build_object('experiment', OLD.id));
    RETURN NULL;
END
$$;

CREATE TRIGGER model_experiment_guard_instants
    BEFORE UPDATE ON model_experiment
    FOR EACH ROW WHEN (OLD.started_at <> NEW.started_at OR OLD.ended_at <> NEW.ended_at)
    EXECUTE FUNCTION model_experiment_guard_instants();

-- A draft's variants come, go and change. After that only labels change, until it is completed. These triggers
-- come after the foreign key's, which waits for whoever holds the experiment: who waited there with the status locked
-- would be waited for in turn.

CREATE FUNCTION model_experiment_variant_guard_structure() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM model_experiment_require_draft(experiment)
    FROM unnest(ARRAY[OLD.experiment_id, NEW.experiment_id]) experiment;
    RETURN NULL;
END
$$;

CREATE TRIGGER model_experiment_variant_guard_structure
    AFTER INSERT OR DELETE ON model_experiment_variant
    FOR EACH ROW EXECUTE FUNCTION model_experiment_variant_guard_structure();

CREATE TRIGGER model_experiment_variant_guard_weight
    AFTER UPDATE ON model_experiment_variant
    FOR EACH ROW WHEN (
        (OLD.id, OLD.experiment_id, OLD.weight) <> (NEW.id, NEW.experiment_id, NEW.weight)
    )
    EXECUTE FUNCTION model_experiment_variant_guard_structure();

CREATE FUNCTION model_experiment_variant_guard_label() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM model_experiment_require_not_completed(NEW.experiment_id);
    RETURN NULL;
END
$$;

CREATE TRIGGER model_experiment_variant_guard_label
    AFTER UPDATE ON model_experiment_variant
    FOR EACH ROW WHEN (OLD.label <> NEW.label)
    EXECUTE FUNCTION model_experiment_variant_guard_label();

-- Versions are published until the experiment is completed and never into the past, they never change, and they go only
-- with a draft. The past begins with the transaction, as the default of `effective_at` does.

CREATE FUNCTION model_experiment_variant_version_guard_insert() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT SET TimeZone = 'UTC' AS $$
BEGIN
    IF NEW.effective_at < now() THEN
        PERFORM model_experiment_refuse('model_experiment_variant_version_not_backdated',
            jsonb_build_object('variant', NEW.variant_id, 'effective_at', NEW.effective_at, 'now', now()));
    END IF;
    PERFORM model_experiment_require_not_completed(experiment_id)
    FROM model_experiment_variant WHERE id = NEW.variant_id;
    RETURN NULL;
END
$$;

CREATE TRIGGER model_experiment_variant_version_guard_insert
    AFTER INSERT ON model_experiment_variant_version
    FOR EACH ROW EXECUTE FUNCTION model_experiment_variant_version_guard_insert();

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
    FOR EACH ROW EXECUTE FUNCTION model_experiment_variant_version_guard_update();

CREATE FUNCTION model_experiment_variant_version_guard_delete() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM model_experiment_require_draft(experiment_id)
    FROM model_experiment_variant WHERE id = OLD.variant_id;
    RETURN NULL;
END
$$;

CREATE TRIGGER model_experiment_variant_version_guard_delete
    AFTER DELETE ON model_experiment_variant_version
    FOR EACH ROW EXECUTE FUNCTION model_experiment_variant_version_guard_delete();

-- A change that doesn't say when it was made is made now. The library says it, so that the copies of a row agree
-- where the table is on several nodes.

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
