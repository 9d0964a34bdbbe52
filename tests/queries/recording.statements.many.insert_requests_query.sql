WITH
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
    unnest($1),
    unnest($2),
    unnest($3),
    unnest($4),
    unnest($5),
    unnest($6),
    unnest($7)
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
  "microdollar_usage"."id",
  "microdollar_usage"."created_at",
  "new_request"."variant_version_id",
  "new_request"."allocation_subject",
  "new_request"."client_request_id",
  "new_request"."system_prompt_sha256",
  "new_request"."request_body_sha256",
  "new_request"."was_truncated"
FROM
  (
    "new_request"
    INNER JOIN "microdollar_usage" ON (
      "new_request"."usage_id" = "microdollar_usage"."id"
    )
  )
ORDER BY
  "new_request"."usage_id"
ON CONFLICT
  ("usage_id")
DO NOTHING
RETURNING
  "model_experiment_request"."usage_id"
