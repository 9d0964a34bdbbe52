//! PostgreSQL's functions that queries call and Diesel doesn't declare.

use diesel::sql_types::{
    Array, BigInt, Jsonb, Nullable, Numeric, Oid, SingleValue, Text, Timestamptz,
};

#[diesel::declare_sql_function]
extern "SQL" {
    /// The instant at which the statement began.
    ///
    /// After a wait for a lock it is later than anything that the lock's earlier holders wrote.
    /// `now()`, the instant at which the transaction began, may not be.
    fn statement_timestamp() -> Timestamptz;

    /// The later of two instants. A null is ignored.
    fn greatest(instant: Timestamptz, other: Nullable<Timestamptz>) -> Timestamptz;

    /// The latest of three instants. A null is ignored.
    #[sql_name = "greatest"]
    fn greatest_of_three(
        instant: Timestamptz,
        second: Nullable<Timestamptz>,
        third: Timestamptz,
    ) -> Timestamptz;

    /// A row for each element. Several calls in one `SELECT` advance together.
    fn unnest<T: SingleValue>(elements: Array<T>) -> T;

    /// A hash of a JSON value.
    fn jsonb_hash(value: Jsonb) -> Integer;

    /// The bytes that a value takes where it is stored, compressed. Reads nothing else of it.
    fn pg_column_size(value: Jsonb) -> Integer;

    /// The bytes of a text.
    fn octet_length(text: Text) -> Integer;

    /// The sum of a `bigint` column.
    ///
    /// A derived selection looks for the type of a function under the function's path, and
    /// `diesel::dsl` has no type `sum` (<https://github.com/diesel-rs/diesel/issues/3745>).
    #[aggregate]
    #[sql_name = "sum"]
    fn sum_of_bigint(column: BigInt) -> Nullable<Numeric>;

    /// A `numeric` as a `bigint`. The server refuses one that exceeds 64 bits.
    fn int8(value: Nullable<Numeric>) -> Nullable<BigInt>;

    /// Sends `payload` to the listeners of `channel` when the transaction commits.
    fn pg_notify(channel: Text, payload: Text);

    /// The name of the database that the session is connected to.
    fn current_database() -> Text;

    /// The value of a server setting.
    fn current_setting(name: Text) -> Text;

    /// Whether the server is a standby that hasn't been promoted.
    fn pg_is_in_recovery() -> Bool;

    /// Whether row-level security restricts what the current role sees of a table.
    fn row_security_active(table: Oid) -> Bool;

    /// Whether the current role has a privilege of a role.
    fn pg_has_role(role: Oid, privilege: Text) -> Bool;

    /// The table with a name, if there is one.
    fn to_regclass(name: Text) -> Nullable<Oid>;
}

/// `sum_of_bigint` can go when the second example compiles. The first shows where the type is.
///
/// ```
/// type Sum<C> = diesel::helper_types::sum<C>;
/// ```
///
/// ```compile_fail
/// type Sum<C> = diesel::dsl::sum<C>;
/// ```
#[cfg(doctest)]
struct DieselStillHidesTheTypeOfSum;
