//! Detection of credentials, which a version holds encrypted and outside of its upstream.

use serde_json::Value;

use crate::values::invalid::InvalidValue;

const CREDENTIAL: &str = "looks like a credential; publish it as the version's key";
const NUL: &str = "must not contain a NUL character";

/// Refuses names of credentials in `json` at any depth, and NUL, which `jsonb` can't store.
///
/// The depth is limited already: this recurses.
pub(super) fn check_json(path: &str, json: &Value) -> Result<(), InvalidValue> {
    check(json).map_err(|(below, rule)| InvalidValue::new(format!("{path}{below}"), rule))
}

/// As [`check_json`]. The error's path begins below `json`, and is built on the way up.
fn check(json: &Value) -> Result<(), (String, &'static str)> {
    match json {
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| {
            let checked = if is_credential(name) {
                Err((String::new(), CREDENTIAL))
            } else if name.contains('\0') {
                Err((String::new(), NUL))
            } else {
                check(value)
            };
            checked.map_err(|(path, rule)| (format!(".{name}{path}"), rule))
        }),
        Value::Array(items) => items.iter().enumerate().try_for_each(|(at, item)| {
            check(item).map_err(|(path, rule)| (format!("[{at}]{path}"), rule))
        }),
        Value::String(text) if text.contains('\0') => Err((String::new(), NUL)),
        _ => Ok(()),
    }
}

/// Whether a field or parameter of this `name` looks like a credential, in any case and with any
/// separators.
pub(super) fn is_credential(name: &str) -> bool {
    const ENDINGS: [&str; 5] =
        ["apikey", "authorization", "accesstoken", "authtoken", "bearertoken"];
    const NAMES: [&str; 4] = ["apitoken", "apisecret", "clientsecret", "secretkey"];
    let letters: String =
        name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    ENDINGS.iter().any(|ending| letters.ends_with(ending)) || NAMES.contains(&letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refusal(json: &Value) -> String {
        check_json("body", json).unwrap_err().to_string()
    }

    #[test]
    fn a_credential_is_refused_at_any_depth() {
        for name in [
            "api_key",
            "API-Key",
            "apiKey",
            "x-api-key",
            "X_API_KEY",
            "openai_api_key",
            "Authorization",
            "Proxy-Authorization",
            "access_token",
            "auth_token",
            "bearer_token",
            "api_token",
            "api-secret",
            "client-secret",
            "secretKey",
        ] {
            let rule = "looks like a credential; publish it as the version's key";
            assert_eq!(refusal(&json!({name: "sk-1"})), format!("body.{name} {rule}"));
            let nested = json!({"a": [1, {"b": {name: {}}}]});
            assert_eq!(refusal(&nested), format!("body.a[1].b.{name} {rule}"));
        }
        for name in ["max_tokens", "key", "api", "token_budget", "authorized", "keyboard"] {
            assert_eq!(check_json("body", &json!({name: "api_key"})), Ok(()), "{name}");
        }
    }

    #[test]
    fn nul_is_refused_in_names_and_texts() {
        let rule = "must not contain a NUL character";
        assert_eq!(refusal(&json!({"a": [{"b": "\0"}]})), format!("body.a[0].b {rule}"));
        assert_eq!(refusal(&json!({"a\0": 1})), format!("body.a\0 {rule}"));
    }
}
