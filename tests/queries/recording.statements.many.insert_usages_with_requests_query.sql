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
  SELECT
    unnest($1),
    unnest($2),
    unnest($3),
    unnest($4),
    unnest($5),
    unnest($6),
    unnest($7),
    unnest($8),
    unnest($9),
    unnest($10),
    unnest($11),
    unnest($12),
    unnest($13),
    unnest($14),
    unnest($15),
    unnest($16),
    unnest($17)
  ON CONFLICT
    ("id")
  DO NOTHING
  RETURNING
    "microdollar_usage"."id",
    "microdollar_usage"."created_at"
),
new_request (
  usage_id,
  variant_version_id,
  allocation_subject,
  client_request_id,
  system_prompt_sha256,
  request_body_sha256,
  was_truncated
) AS (
  SELECT
    unnest($18),
    unnest($19),
    unnest($20),
    unnest($21),
    unnest($22),
    unnest($23),
    unnest($24)
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
  "new_request"."variant_version_id",
  "new_request"."allocation_subject",
  "new_request"."client_request_id",
  "new_request"."system_prompt_sha256",
  "new_request"."request_body_sha256",
  "new_request"."was_truncated"
FROM
  (
    "new_request"
    INNER JOIN "recorded_usage" ON ("new_request"."usage_id" = "recorded_usage"."id")
  )
RETURNING
  "model_experiment_request"."usage_id"
