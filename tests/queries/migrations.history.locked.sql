SELECT
  (pg_advisory_lock($1) IS NOT NULL)
