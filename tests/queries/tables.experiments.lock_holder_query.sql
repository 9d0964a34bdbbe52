SELECT
  "pg_locks"."pid"
FROM
  "pg_locks"
WHERE
  (
    (
      ("pg_locks"."locktype" = $1)
      AND "pg_locks"."granted"
    )
    AND (
      "pg_locks"."transactionid" = ANY(
        SELECT
          "model_experiment"."xmax"
        FROM
          "model_experiment"
        WHERE
          ("model_experiment"."id" = $2)
      )
    )
  )
