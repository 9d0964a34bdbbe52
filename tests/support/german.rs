//! A server whose messages are German.

use super::postgres::{Binaries, Server};
use super::{block_on, connect};
use diesel_async::SimpleAsyncConnection;
use std::io;
use std::path::Path;

/// The server's setting. Debian: packages `locales` and `postgresql`, and
/// `localedef -i de_DE -f UTF-8 de_DE.UTF-8`.
pub const SETTING: &str = "lc_messages=de_DE.UTF-8";

/// A server on a copy of the cluster in `template`.
pub fn start(binaries: &Binaries, template: &Path) -> io::Result<Server> {
    let settings = |_: &Path| Ok(vec![SETTING.to_owned()]);
    let server = Server::start_with(binaries, Some(template), settings)?;
    block_on(require_german(&server.url("postgres")))?;
    Ok(server)
}

/// Fails unless the server has its German messages.
pub async fn require_german(url: &str) -> io::Result<()> {
    let mut conn = connect(url).await.map_err(io::Error::other)?;
    match conn.batch_execute("SELECT 1 / 0").await {
        Err(error) if error.to_string() == "Division durch Null" => Ok(()),
        answer => Err(io::Error::other(format!("the server isn't German: {answer:?}"))),
    }
}

/// Says why a test isn't run.
pub fn skip(error: &io::Error) {
    // A server of PG_BIN may have been built without translations.
    let may_lack = std::env::var_os("CI").is_none() || std::env::var_os("PG_BIN").is_some();
    assert!(may_lack, "no server with German messages can be had: {error}");
    eprintln!("skipped, since no server with German messages can be had: {error}");
}
