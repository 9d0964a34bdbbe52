//! The effect of a statement on its session, by its text.

use crate::database::transaction::BEGIN;

/// What a statement leaves behind on its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing.
    None,
    /// An open transaction.
    BeginsTransaction,
    /// No open transaction.
    EndsTransaction,
    /// Settings, locks or objects of the session, or a transaction.
    MayAlterSession,
    /// What no reset undoes, such as the loss of the statements that the client prepared.
    Irreversible,
}

/// Words of statements that a reset can't undo.
const IRREVERSIBLE: [&str; 4] = ["PREPARE", "DEALLOCATE", "DISCARD", "LOAD"];

/// Words that name objects of the session.
const TEMPORARY: [&str; 3] = ["TEMP", "TEMPORARY", "PG_TEMP"];

/// Words that may stand before a parenthesis: SQL's own, functions that change no session, and our
/// `WITH` queries. Any other function may be one that calls `set_config`.
#[rustfmt::skip]
const HARMLESS: &[&str] = &[
    "ABS", "ALL", "AND", "ANY", "ARRAY", "ARRAY_AGG", "AVG", "BETWEEN", "BY", "CASE", "CAST",
    "COALESCE", "CONFLICT", "COUNT", "CURRENT_SETTING", "DATE_PART", "DATE_TRUNC", "DISTINCT",
    "ELSE", "EXCEPT", "EXISTS", "EXTRACT", "FILTER", "FROM", "GEN_RANDOM_UUID", "GREATEST",
    "IN", "INT8", "INTERSECT", "INTERVAL", "IS", "JOIN", "JSONB_HASH", "KEY", "LATERAL",
    "LEAST", "LENGTH", "LIKE", "LIMIT", "LOWER", "MATERIALIZED", "MAX", "MIN", "NEW_REQUEST",
    "NOT", "NOW", "NULLIF", "OCTET_LENGTH", "OF", "OFFSET", "ON", "OR", "OVER",
    "PERCENTILE_CONT", "PG_BACKEND_PID", "PG_COLUMN_SIZE", "PG_HAS_ROLE", "PG_IS_IN_RECOVERY",
    "PG_NOTIFY", "RANDOM", "RETURNING", "ROUND", "ROW", "ROW_NUMBER", "ROW_SECURITY_ACTIVE",
    "SELECT", "SET", "SOME", "STATEMENT_TIMESTAMP", "STDDEV_SAMP", "SUM", "THEN", "TO_REGCLASS",
    "UNION", "UNNEST", "UPPER", "USING", "VALUES", "WHEN", "WHERE", "WITHIN",
];

/// The effect of `sql`, which is taken for the worst where the text doesn't tell.
pub(super) fn effect(sql: &str) -> Effect {
    let is_around = |c: char| c.is_whitespace() || c == ';';
    let sql = sql.trim_matches(is_around);
    if sql == BEGIN {
        return Effect::BeginsTransaction;
    }
    let mut words = words_of(sql.trim_start_matches(|c: char| c.is_whitespace() || c == '('));
    let first = words.next().unwrap_or_default().to_ascii_uppercase();
    let is_alone = sql.len() == first.len();
    let is_one = !sql.contains(';');
    match first.as_str() {
        "BEGIN" | "START" if is_one => Effect::BeginsTransaction,
        "COMMIT" | "END" | "ROLLBACK" | "ABORT" if is_alone => Effect::EndsTransaction,
        "SAVEPOINT" | "RELEASE" if is_one => Effect::None,
        "ROLLBACK" if is_one && words.next().is_some_and(|word| is_among(&["TO"], word)) => {
            Effect::None
        }
        "SELECT" | "INSERT" | "UPDATE" | "DELETE" | "MERGE" | "WITH" if is_harmless(sql) => {
            Effect::None
        }
        _ if words_of(sql).any(|word| is_among(&IRREVERSIBLE, word)) => Effect::Irreversible,
        _ => Effect::MayAlterSession,
    }
}

/// What stands before a token.
#[derive(Clone, Copy)]
enum Before<'a> {
    /// Nothing that makes a call of a parenthesis.
    Other,
    /// `INTO` or `AS`: a name follows that no call begins with.
    Naming,
    /// The name of a table or an alias, which a list of columns may follow.
    Named,
    /// A dot behind any other name.
    Dot,
    /// A word.
    Word(&'a str),
    /// A quoted or qualified name.
    Name,
}

/// Whether `sql` is one statement that calls only harmless functions and names nothing temporary.
fn is_harmless(sql: &str) -> bool {
    let bytes = sql.as_bytes();
    let mut before = Before::Other;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let next = bytes.get(at + 1).copied().unwrap_or_default();
        let start = at;
        at += 1;
        match byte {
            // Other quotes, comments and further statements aren't followed.
            b'\\' | b';' => return false,
            b'$' if !next.is_ascii_digit() => return false,
            b'-' if next == b'-' => return false,
            b'/' if next == b'*' => return false,
            b'\'' | b'"' => {
                let Some(length) = bytes[at..].iter().position(|other| *other == byte) else {
                    return false;
                };
                at += length + 1;
                before = match (byte, before) {
                    (b'\'', _) => Before::Other,
                    (_, Before::Naming) => Before::Named,
                    _ => Before::Name,
                };
            }
            b'.' => {
                before = if matches!(before, Before::Named) { Before::Naming } else { Before::Dot };
            }
            b'(' => match before {
                Before::Word(word) if !is_among(HARMLESS, word) => return false,
                Before::Name => return false,
                _ => before = Before::Other,
            },
            _ if is_of_word(byte) => {
                at += bytes[at..].iter().take_while(|byte| is_of_word(**byte)).count();
                let word = &sql[start..at];
                if is_among(&TEMPORARY, word) {
                    return false;
                }
                before = match before {
                    _ if is_among(&["INTO", "AS"], word) => Before::Naming,
                    Before::Naming => Before::Named,
                    Before::Dot => Before::Name,
                    _ => Before::Word(word),
                };
            }
            _ if byte.is_ascii_whitespace() => {}
            _ => before = Before::Other,
        }
    }
    true
}

/// Whether the byte is of an unquoted name, whose other letters are all beyond ASCII.
fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

fn words_of(sql: &str) -> impl Iterator<Item = &str> {
    sql.split(|c: char| !c.is_ascii_alphabetic())
}

fn is_among(words: &[&str], word: &str) -> bool {
    words.iter().any(|other| other.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    #[test]
    fn a_statement_of_ours_changes_no_session() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/queries");
        let paths = fs::read_dir(directory).unwrap().map(|file| file.unwrap().path());
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        // Migrations have a connection of their own.
        let ours: Vec<_> =
            paths.filter(|path| !name(path).starts_with("database.migrations.")).collect();
        assert!(ours.len() > 40);
        let altering: Vec<_> = ours
            .iter()
            .filter(|path| effect(&fs::read_to_string(path).unwrap()) != Effect::None)
            .map(|path| name(path))
            .collect();
        assert_eq!(altering, [""; 0], "add their functions to HARMLESS");
    }

    #[test]
    fn diesels_transactions_are_followed() {
        for (sql, expected) in [
            ("BEGIN", Effect::BeginsTransaction),
            (BEGIN, Effect::BeginsTransaction),
            ("BEGIN TRANSACTION ISOLATION LEVEL SERIALIZABLE", Effect::BeginsTransaction),
            ("SAVEPOINT diesel_savepoint_1", Effect::None),
            ("RELEASE SAVEPOINT diesel_savepoint_1", Effect::None),
            ("ROLLBACK TO SAVEPOINT diesel_savepoint_1", Effect::None),
            ("COMMIT", Effect::EndsTransaction),
            ("ROLLBACK", Effect::EndsTransaction),
            (" start transaction read only;", Effect::BeginsTransaction),
            ("end;", Effect::EndsTransaction),
            ("Abort", Effect::EndsTransaction),
            ("COMMIT AND CHAIN", Effect::MayAlterSession),
            ("ROLLBACK AND CHAIN", Effect::MayAlterSession),
            ("COMMIT; BEGIN", Effect::MayAlterSession),
            ("BEGIN; COMMIT; SET ROLE x", Effect::MayAlterSession),
        ] {
            assert_eq!(effect(sql), expected, "{sql}");
        }
    }

    #[test]
    fn harmless_statements_are_known() {
        for sql in [
            "SELECT 'last'",
            r#"SELECT "t"."a" FROM "t" WHERE ("t"."b" = $1) AND "t"."c" IN ($2, $3)"#,
            r#"INSERT INTO "s"."t" ("a") VALUES ($1) ON CONFLICT ("a") DO NOTHING"#,
            "insert into t (a) select count(*) from u where b = 'evil(1)' or c = 'it''s; (x)'",
            r#"WITH x AS MATERIALIZED (SELECT 1) UPDATE t SET a = coalesce(b, 2) FROM x AS y (z)"#,
            r#"SELECT "set_config" FROM "temp""#,
            "((SELECT a FROM t LIMIT 1) UNION (SELECT 2));",
        ] {
            assert_eq!(effect(sql), Effect::None, "{sql}");
        }
    }

    #[test]
    fn whatever_may_alter_the_session_is_noticed() {
        for sql in [
            "",
            "SET search_path = other",
            "set local lock_timeout = 1",
            "SELECT set_config('search_path', 'other', false)",
            "SELECT pg_catalog.set_config ('search_path', 'other', false)",
            "SELECT Pg_Advisory_Lock(1)",
            r#"SELECT "log_in"($1)"#,
            r#"SELECT "log_in" ($1)"#,
            r#"SELECT U&"\006cog_in"('x')"#,
            "SELECT other.count(1)",
            r#"SELECT "other".count(1)"#,
            "INSERT INTO t SELECT log_in(1)",
            r#"INSERT INTO "t" ("a") SELECT log_in(1)"#,
            "INSERT INTO t (a) VALUES (log_in(1))",
            "SELECT 1 INTO TEMP t",
            "SELECT 1 INTO pg_temp.t",
            "SELECT größe(1)",
            "SELECT 1; SET ROLE x",
            "SELECT $$a$$; SET ROLE x",
            r"SELECT E'\'', log_in('x')",
            "SELECT 'open",
            "SELECT 1 /* ' */, log_in(1) /* ' */",
            "SELECT 1 -- '\n, log_in(1) -- '",
            "/* */ SELECT 1",
            "CREATE TEMP TABLE t ()",
            "LISTEN channel",
            "DO 'BEGIN END'",
            "CALL log_in()",
        ] {
            assert_eq!(effect(sql), Effect::MayAlterSession, "{sql}");
        }
        for sql in [
            "PREPARE p AS SELECT 1",
            "deallocate all",
            "DISCARD ALL",
            "LOAD 'auto_explain'",
            "SELECT 1; DISCARD ALL",
        ] {
            assert_eq!(effect(sql), Effect::Irreversible, "{sql}");
        }
    }
}
