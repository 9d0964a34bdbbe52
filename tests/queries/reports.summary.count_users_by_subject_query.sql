SELECT
  "model_experiment_request"."variant_version_id",
  "model_experiment_request"."allocation_subject",
  count(DISTINCT "microdollar_usage"."kilo_user_id")
FROM
  (
    (
      "model_experiment_request"
      INNER JOIN (
        "model_experiment_variant_version"
        INNER JOIN "model_experiment_variant" ON (
          "model_experiment_variant_version"."variant_id" = "model_experiment_variant"."id"
        )
      ) ON (
        "model_experiment_request"."variant_version_id" = "model_experiment_variant_version"."id"
      )
    )
    INNER JOIN "microdollar_usage" ON (
      "model_experiment_request"."usage_id" = "microdollar_usage"."id"
    )
  )
WHERE
  (
    (
      ("model_experiment_variant"."experiment_id" = $1)
      AND ("model_experiment_request"."created_at" >= $2)
    )
    AND ("model_experiment_request"."created_at" < $3)
  )
GROUP BY
  "model_experiment_request"."variant_version_id",
  "model_experiment_request"."allocation_subject"
