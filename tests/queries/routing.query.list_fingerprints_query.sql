SELECT
  "model_experiment"."id",
  "model_experiment"."public_model_id",
  "model_experiment"."status",
  "model_experiment_variant"."id",
  "model_experiment_variant"."weight",
  (
    SELECT
      ROW (
        "newest"."id",
        CASE
          WHEN (
            (
              pg_column_size("newest"."encrypted_api_key") <= 131072
            )
          ) THEN (jsonb_hash("newest"."encrypted_api_key"))
        END
      )
    FROM
      "model_experiment_variant_version" AS "newest"
    WHERE
      (
        (
          "newest"."variant_id" = "model_experiment_variant"."id"
        )
        AND (
          "newest"."effective_at" = (
            SELECT
              "earlier"."effective_at"
            FROM
              "model_experiment_variant_version" AS "earlier"
            WHERE
              (
                (
                  "earlier"."variant_id" = "model_experiment_variant"."id"
                )
                AND (
                  "earlier"."effective_at" <= greatest(
                    statement_timestamp(),
                    $1,
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
      )
    ORDER BY
      "newest"."id" DESC
    LIMIT
      1
  ),
  (
    SELECT
      "earlier"."effective_at"
    FROM
      "model_experiment_variant_version" AS "earlier"
    WHERE
      (
        (
          (
            "earlier"."variant_id" = "model_experiment_variant"."id"
          )
          AND (
            "earlier"."effective_at" > greatest(statement_timestamp(), $2)
          )
        )
        AND (
          "earlier"."effective_at" > "earlier"."created_at"
        )
      )
    ORDER BY
      "earlier"."effective_at" ASC
    LIMIT
      1
  ),
  greatest(statement_timestamp(), $3)
FROM
  (
    "model_experiment"
    LEFT OUTER JOIN "model_experiment_variant" ON (
      "model_experiment_variant"."experiment_id" = "model_experiment"."id"
    )
  )
WHERE
  (
    ("model_experiment"."status" = 'active')
    OR ("model_experiment"."status" = 'paused')
  )
