-- Distributes the crate's tables over the nodes of a Citus cluster. Idempotent. Where the extension
-- isn't installed, it says so and does nothing.
--
--   psql --set ON_ERROR_STOP=1 --file docs/distribute.sql "$DATABASE_URL"
--
-- Run it as the tables' owner on the coordinator, once the tables exist; migrations may be applied
-- before and after. The migration that creates the tables leaves them local, also when it is
-- reverted and applied again: run this again.
--
-- Experiments, variants, versions and the record of migrations become reference tables. Usages are
-- distributed by `id`, and requests beside them by `usage_id`. Tables that are local are completed.
-- A table of another layout is refused, and then nothing is changed.
--
-- The tables are locked while their rows are copied, and their triggers don't fire: the rows aren't
-- new. The local rows are then removed. On the nodes the checks that are NOT VALID hold for copied
-- rows too, so that a row which breaks one is refused.
--
-- One statement is one transaction: all tables are distributed, or none.

DO $distribute$
DECLARE
    name text;
    layout text;
    wanted text;
    pending text[] := '{}';
    item record;
    restore text[] := '{}';
    command text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN
        RAISE NOTICE 'nothing is distributed: the extension citus is not installed here';
        RETURN;
    END IF;

    -- Writers lock in this order, too: the recorder usages and requests, operations the others.
    FOREACH name IN ARRAY '{microdollar_usage, model_experiment_request, model_experiment,
        model_experiment_variant, model_experiment_variant_version, __diesel_schema_migrations}'::text[]
    LOOP
        IF to_regclass(name) IS NULL THEN
            -- Whoever applies the SQL by hand has no record of it.
            CONTINUE WHEN name = '__diesel_schema_migrations';
            RAISE EXCEPTION 'table % is missing', name
                USING HINT = 'Apply the migrations first, and see the search_path.';
        END IF;
        wanted := CASE name
            WHEN 'microdollar_usage' THEN 'distributed by id'
            WHEN 'model_experiment_request' THEN 'distributed by usage_id'
            ELSE 'a reference table'
        END;
        SELECT CASE
            WHEN partmethod = 'h' THEN 'distributed by ' || column_to_column_name(logicalrelid, partkey)
            WHEN partmethod = 'n' AND repmodel = 't' THEN 'a reference table'
            WHEN partmethod = 'n' AND colocationid = 0 THEN 'local'
            ELSE 'of a single shard or range'
        END INTO layout
        FROM pg_dist_partition WHERE logicalrelid = to_regclass(name);
        CONTINUE WHEN layout = wanted;
        -- Null where Citus doesn't know the table.
        IF layout <> 'local' THEN
            RAISE EXCEPTION 'table % is %, and must be %', name, layout, wanted
                USING HINT = format('Make it local, and run this again: '
                    'SET citus.enable_unsafe_triggers TO on; '
                    'SELECT undistribute_table(%L, cascade_via_foreign_keys => true);', name);
        END IF;
        EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', name);
        pending := pending || name;
    END LOOP;

    SET LOCAL citus.enable_local_reference_table_foreign_keys TO off;
    SET LOCAL citus.enable_unsafe_triggers TO on;

    -- Citus adds local tables to its metadata by itself when they refer to a reference table. From
    -- then on neither of two such tables can be distributed while one refers to the other.
    IF pending && '{microdollar_usage, model_experiment_request}' THEN
        FOR item IN
            SELECT conname AS name, pg_get_constraintdef(oid) AS definition FROM pg_constraint
            WHERE conrelid = 'model_experiment_request'::regclass
                AND confrelid = 'microdollar_usage'::regclass
        LOOP
            EXECUTE format('ALTER TABLE model_experiment_request DROP CONSTRAINT %I', item.name);
            restore := restore || format('ALTER TABLE model_experiment_request ADD CONSTRAINT %I %s',
                item.name, item.definition);
        END LOOP;
    END IF;

    FOREACH name IN ARRAY pending LOOP
        restore := restore || format('ALTER TABLE %I ENABLE TRIGGER USER', name);
        -- Whoever had disabled one of them, or enabled it for replicas, meant it.
        FOR item IN
            SELECT tgname, CASE tgenabled
                    WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS'
                END AS state
            FROM pg_trigger
            WHERE tgrelid = name::regclass AND NOT tgisinternal AND tgenabled <> 'O'
        LOOP
            restore := restore
                || format('ALTER TABLE %I %s TRIGGER %I', name, item.state, item.tgname);
        END LOOP;
        EXECUTE format('ALTER TABLE %I DISABLE TRIGGER USER', name);
    END LOOP;

    -- Requests refer to versions and usages.
    FOREACH name IN ARRAY '{__diesel_schema_migrations, model_experiment, model_experiment_variant,
        model_experiment_variant_version}'::text[]
    LOOP
        CONTINUE WHEN name <> ALL (pending);
        PERFORM create_reference_table(name);
    END LOOP;
    IF 'microdollar_usage' = ANY (pending) THEN
        PERFORM create_distributed_table('microdollar_usage', 'id');
    END IF;
    IF 'model_experiment_request' = ANY (pending) THEN
        PERFORM create_distributed_table('model_experiment_request', 'usage_id',
            colocate_with => 'microdollar_usage');
    END IF;
    IF (SELECT count(DISTINCT colocationid) > 1 FROM pg_dist_partition WHERE logicalrelid
        IN ('microdollar_usage'::regclass, 'model_experiment_request'::regclass))
    THEN
        RAISE EXCEPTION 'microdollar_usage and model_experiment_request are not colocated'
            USING HINT = 'Make both local by undistribute_table, and run this again.';
    END IF;

    FOREACH name IN ARRAY pending LOOP
        PERFORM truncate_local_data_after_distributing_table(name::regclass);
    END LOOP;
    FOREACH command IN ARRAY restore LOOP
        EXECUTE command;
    END LOOP;
    RAISE NOTICE 'distributed now: %', coalesce(nullif(array_to_string(pending, ', '), ''), 'nothing');
END
$distribute$;
