SELECT
  EXISTS (
    SELECT
      "pg_class"."oid"
    FROM
      "pg_class"
    WHERE
      (
        (
          ("pg_class"."oid" = to_regclass($1))
          AND row_security_active("pg_class"."oid")
        )
        AND NOT (
          EXISTS (
            SELECT
              "pg_policy"."oid",
              "pg_policy"."polrelid",
              "pg_policy"."polcmd",
              "pg_policy"."polpermissive",
              "pg_policy"."polroles"
            FROM
              "pg_policy"
            WHERE
              (
                (
                  (
                    ("pg_policy"."polrelid" = "pg_class"."oid")
                    AND "pg_policy"."polpermissive"
                  )
                  AND (
                    ("pg_policy"."polcmd" = $2)
                    OR ("pg_policy"."polcmd" = $3)
                  )
                )
                AND EXISTS (
                  SELECT
                    "pg_roles"."oid"
                  FROM
                    "pg_roles"
                  WHERE
                    (
                      pg_has_role("pg_roles"."oid", $4)
                      AND (
                        "pg_policy"."polroles" && ARRAY [ "pg_roles"."oid",
                        $5 ]
                      )
                    )
                )
              )
          )
        )
      )
  )
