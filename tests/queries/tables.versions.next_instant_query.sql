SELECT
  greatest(
    statement_timestamp(),
    (
      SELECT
        ("earlier"."effective_at" + $1)
      FROM
        "model_experiment_variant_version" AS "earlier"
      WHERE
        (
          ("earlier"."variant_id" = $2)
          AND (
            "earlier"."effective_at" <= greatest(
              statement_timestamp(),
              $3,
              "earlier"."created_at"
            )
          )
        )
      ORDER BY
        "earlier"."effective_at" DESC
      LIMIT
        1
    )
  )
