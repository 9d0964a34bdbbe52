//! Row-level security: PostgreSQL's catalogues of tables, policies and roles.

diesel::table! {
    use diesel::sql_types::*;

    /// Tables.
    pg_class (oid) {
        oid -> Oid,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    /// The policies of tables.
    pg_policy (oid) {
        oid -> Oid,
        polrelid -> Oid,
        polcmd -> CChar,
        polpermissive -> Bool,
        polroles -> Array<Oid>,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    /// The roles of the server.
    pg_roles (oid) {
        oid -> Oid,
    }
}

diesel::allow_tables_to_appear_in_same_query!(pg_class, pg_policy, pg_roles);
