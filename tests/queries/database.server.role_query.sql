SELECT
  pg_is_in_recovery(),
  current_setting($1)
