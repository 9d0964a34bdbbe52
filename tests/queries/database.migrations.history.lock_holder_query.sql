SELECT
  "pg_locks"."pid"
FROM
  "pg_locks"
WHERE
  (
    (
      (
        (
          "pg_locks"."pid" = ANY(
            SELECT
              "pg_stat_activity"."pid"
            FROM
              "pg_stat_activity"
            WHERE
              (
                "pg_stat_activity"."datname" = current_database()
              )
          )
        )
        AND ("pg_locks"."relation" = to_regclass($1))
      )
      AND "pg_locks"."granted"
    )
    AND ("pg_locks"."mode" != ALL ($2))
  )
