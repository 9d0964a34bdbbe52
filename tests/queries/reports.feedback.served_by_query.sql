SELECT
  "model_experiment_request"."client_request_id",
  "model_experiment_request"."usage_id",
  "model_experiment_request"."created_at",
  "model_experiment_request"."variant_version_id",
  "model_experiment_variant"."id",
  "model_experiment_variant"."label",
  "model_experiment_variant"."experiment_id"
FROM
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
WHERE
  (
    "model_experiment_request"."client_request_id" = ANY($1)
  )
ORDER BY
  "model_experiment_request"."client_request_id",
  "model_experiment_request"."created_at",
  "model_experiment_request"."usage_id"
