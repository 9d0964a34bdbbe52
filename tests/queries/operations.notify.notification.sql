SELECT
  (pg_notify($1, $2) IS NOT NULL)
