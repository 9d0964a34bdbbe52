WITH
recorded_usage AS (
  INSERT INTO
    "microdollar_usage" (
      "id",
      "kilo_user_id",
      "cost",
      "input_tokens",
      "output_tokens",
      "cache_write_tokens",
      "cache_hit_tokens",
      "created_at",
      "provider",
      "model",
      "requested_model",
      "cache_discount",
      "has_error",
      "abuse_classification",
      "organization_id",
      "inference_provider",
      "project_id"
    )
  VALUES
    (
      $1,
      $2,
      $3,
      $4,
      $5,
      $6,
      $7,
      $8,
      $9,
      $10,
      $11,
      $12,
      $13,
      $14,
      $15,
      $16,
      $17
    )
  ON CONFLICT
    ("id")
  DO NOTHING
  RETURNING
    "microdollar_usage"."id",
    "microdollar_usage"."created_at"
)
INSERT INTO
  "model_experiment_request" (
    "usage_id",
    "created_at",
    "variant_version_id",
    "allocation_subject",
    "client_request_id",
    "system_prompt_sha256",
    "request_body_sha256",
    "was_truncated"
  )
SELECT
  "recorded_usage"."id",
  "recorded_usage"."created_at",
  $18,
  $19,
  $20,
  $21,
  $22,
  $23
FROM
  "recorded_usage"
RETURNING
  "model_experiment_request"."usage_id"
