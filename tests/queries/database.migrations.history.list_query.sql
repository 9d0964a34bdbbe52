SELECT
  "__diesel_schema_migrations"."version"
FROM
  "__diesel_schema_migrations"
