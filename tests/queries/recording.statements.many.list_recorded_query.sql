SELECT
  "microdollar_usage"."id",
  "microdollar_usage"."kilo_user_id",
  "microdollar_usage"."cost",
  "microdollar_usage"."input_tokens",
  "microdollar_usage"."output_tokens",
  "microdollar_usage"."cache_write_tokens",
  "microdollar_usage"."cache_hit_tokens",
  "microdollar_usage"."created_at",
  "microdollar_usage"."provider",
  "microdollar_usage"."model",
  "microdollar_usage"."requested_model",
  "microdollar_usage"."cache_discount",
  "microdollar_usage"."has_error",
  "microdollar_usage"."abuse_classification",
  "microdollar_usage"."organization_id",
  "microdollar_usage"."inference_provider",
  "microdollar_usage"."project_id",
  "model_experiment_request"."usage_id",
  "model_experiment_request"."variant_version_id",
  "model_experiment_request"."allocation_subject",
  "model_experiment_request"."client_request_id",
  "model_experiment_request"."system_prompt_sha256",
  "model_experiment_request"."request_body_sha256",
  "model_experiment_request"."was_truncated",
  "model_experiment_request"."created_at"
FROM
  (
    "microdollar_usage"
    LEFT OUTER JOIN "model_experiment_request" ON (
      "model_experiment_request"."usage_id" = "microdollar_usage"."id"
    )
  )
WHERE
  ("microdollar_usage"."id" = ANY($1))
