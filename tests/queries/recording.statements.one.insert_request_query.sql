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
  "microdollar_usage"."id",
  "microdollar_usage"."created_at",
  $1,
  $2,
  $3,
  $4,
  $5,
  $6
FROM
  "microdollar_usage"
WHERE
  ("microdollar_usage"."id" = $7)
ON CONFLICT
  ("usage_id")
DO NOTHING
RETURNING
  "model_experiment_request"."usage_id"
