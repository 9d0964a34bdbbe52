//! Rules of an upstream's base URL.

use serde_json::Value;
use url::Url;

use crate::values::invalid::InvalidValue;
use crate::values::upstream::credentials::is_credential;
use crate::values::upstream::fields::{refused, text};

/// Reads an absolute http or https URL that holds no credential.
pub(super) fn base_url(path: &str, value: Value) -> Result<String, InvalidValue> {
    let text = text(path, value)?;
    // The parser repairs its input; the stored text must need no repair.
    let after_scheme = text.strip_prefix("http://").or(text.strip_prefix("https://"));
    let is_plain = after_scheme.is_some_and(|rest| !rest.starts_with('/'))
        && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\');
    let url = Url::parse(&text)
        .ok()
        .filter(|_| is_plain)
        .ok_or_else(|| refused(path, "must be an absolute http or https URL"))?;
    if url.fragment().is_some() {
        return Err(refused(path, "must not have a fragment"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused(path, "must not contain a user name or password"));
    }
    if url.query_pairs().any(|(name, _)| name == "key" || is_credential(&name)) {
        return Err(refused(path, "must not contain a credential"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        base_url("url", url.into()).unwrap_err().to_string()
    }

    #[test]
    fn the_text_is_kept_as_it_is() {
        for url in ["https://partner.example", "http://[::1]:8080/%2e%2e/?api-version=2026-01-01"] {
            assert_eq!(base_url("url", url.into()).unwrap(), url);
        }
    }

    #[test]
    fn is_absolute_and_holds_no_credential() {
        for url in [
            "",
            "partner.example/v1",
            "/v1",
            "ftp://x.example",
            "https://",
            "https://:443/v1",
            "javascript:alert(1)",
            "https:x.example",
            "https:///x.example",
            r"https:\\x.example",
            " https://x.example",
            "https://x.example/a b",
            "https://x.exa\nmple",
            "https://x.example/\u{7f}",
            r"https://x.example\v1",
        ] {
            assert_eq!(refusal(url), "url must be an absolute http or https URL");
        }
        for url in ["https://user@x.example", "https://:secret@x.example", "https://u:p@x.example"]
        {
            assert_eq!(refusal(url), "url must not contain a user name or password");
        }
        for query in ["api_key=sk-1", "v=1&key=sk-1", "X-Api-Key=sk-1"] {
            let error = refusal(&format!("https://x.example/?{query}"));
            assert_eq!(error, "url must not contain a credential");
        }
        let error = refusal("https://x.example/#api_key=sk-1");
        assert_eq!(error, "url must not have a fragment");
    }
}
