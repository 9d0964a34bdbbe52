SELECT
  "model_experiment_request"."usage_id",
  "model_experiment_request"."variant_version_id",
  "model_experiment_request"."allocation_subject",
  "model_experiment_request"."client_request_id",
  "model_experiment_request"."system_prompt_sha256",
  "model_experiment_request"."request_body_sha256",
  "model_experiment_request"."was_truncated",
  "model_experiment_request"."created_at"
FROM
  "model_experiment_request"
WHERE
  (
    "model_experiment_request"."client_request_id" = $1
  )
ORDER BY
  "model_experiment_request"."created_at",
  "model_experiment_request"."usage_id"
