SELECT
  "model_experiment"."id",
  "model_experiment"."status",
  "model_experiment_variant"."id",
  "model_experiment_variant"."weight",
  "model_experiment_variant_version"."id",
  "model_experiment_variant_version"."upstream",
  "model_experiment_variant_version"."encrypted_api_key"
FROM
  (
    (
      "model_experiment"
      LEFT OUTER JOIN "model_experiment_variant" ON (
        "model_experiment_variant"."experiment_id" = "model_experiment"."id"
      )
    )
    LEFT OUTER JOIN "model_experiment_variant_version" ON (
      "model_experiment_variant_version"."id" = (
        SELECT
          "newest"."id"
        FROM
          "model_experiment_variant_version" AS "newest"
        WHERE
          (
            (
              "newest"."variant_id" = "model_experiment_variant"."id"
            )
            AND ("newest"."effective_at" <= statement_timestamp())
          )
        ORDER BY
          "newest"."effective_at" DESC,
          "newest"."id" DESC
        LIMIT
          1
      )
    )
  )
WHERE
  (
    ("model_experiment"."public_model_id" = $1)
    AND (
      ("model_experiment"."status" = 'active')
      OR ("model_experiment"."status" = 'paused')
    )
  )
ORDER BY
  "model_experiment_variant"."id"
