//! The language of a server's messages, by which errors are told where diesel-async passes no
//! SQLSTATE on.

use diesel_async::AsyncPgConnection;
use std::sync::Once;

use crate::error::Result;
use crate::sql::functions::current_setting;
use crate::sql::run::Returns;

fn lc_messages_query() -> impl Returns<String> {
    diesel::select(current_setting("lc_messages"))
}

/// Whether the server's messages are English.
pub(crate) async fn is_english(conn: &mut AsyncPgConnection) -> Result<bool> {
    Ok(is_locale_english(&lc_messages_query().one(conn).await?))
}

/// Logs once, if a server's messages aren't English, what that costs.
pub(crate) fn warn_once(lc_messages: &str) {
    static WARNED: Once = Once::new();
    if !is_locale_english(lc_messages) {
        WARNED.call_once(|| {
            tracing::warn!(
                lc_messages,
                "the server's messages aren't English, so that deadlocks, timeouts and shutdowns \
                 are no retryable errors; set lc_messages = 'C'"
            );
        });
    }
}

/// An empty one is the default of a server's environment, which hosted ones have.
fn is_locale_english(lc_messages: &str) -> bool {
    let (language, _) = lc_messages.split_once(['.', '_', '@']).unwrap_or((lc_messages, ""));
    ["", "c", "posix", "en", "english"].contains(&language.to_ascii_lowercase().as_str())
}

#[cfg(test)]
pub(crate) fn queries() -> Vec<crate::registry::Query> {
    use crate::registry::query;

    vec![query!(lc_messages_query()).rows(1, 0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::Mutex;

    static LOGGED: Mutex<Vec<u8>> = Mutex::new(Vec::new());

    struct Log;

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            LOGGED.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn another_language_is_logged_once() {
        let subscriber = tracing_subscriber::fmt().with_writer(|| Log).with_ansi(false).finish();
        tracing::subscriber::with_default(subscriber, || {
            for lc_messages in ["C", "de_DE.UTF-8", "fr_FR.UTF-8", "de_DE.UTF-8"] {
                warn_once(lc_messages);
            }
        });
        let logged = String::from_utf8(LOGGED.lock().unwrap().clone()).unwrap();
        assert_eq!(logged.lines().count(), 1, "{logged}");
        assert!(logged.contains("WARN") && logged.contains("de_DE.UTF-8"), "{logged}");
    }

    #[test]
    fn the_language_is_told_by_the_locale() {
        for english in [
            "",
            "C",
            "POSIX",
            "C.UTF-8",
            "en_US.UTF-8",
            "en_GB",
            "en",
            "English_United States.1252",
        ] {
            assert!(is_locale_english(english), "{english}");
        }
        for other in ["de_DE.UTF-8", "de_DE@euro", "fr", "ca_ES", "eng_XX", "German_Germany.1252"] {
            assert!(!is_locale_english(other), "{other}");
        }
    }
}
