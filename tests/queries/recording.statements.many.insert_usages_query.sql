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
