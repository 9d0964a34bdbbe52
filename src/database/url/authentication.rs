//! How the server may authenticate: `require_auth` and `channel_binding`.

use tokio_postgres::config::ChannelBinding;

use crate::database::tls::TlsMode;
use crate::database::url::values::Values;
use crate::error::{Error, Result};

/// libpq's names of the methods. The driver has the first four.
const METHODS: [&str; 7] = ["none", "password", "md5", "scram-sha-256", "gss", "sspi", "oauth"];

/// The channel binding that the driver must keep to, so that `require_auth` holds.
///
/// The driver answers to whatever method the server names, but for one: channel binding is part of
/// `scram-sha-256` alone.
pub(super) fn channel_binding(values: &Values, mode: TlsMode) -> Result<ChannelBinding> {
    let asked = values.choice(
        "channel_binding",
        &[
            ("disable", ChannelBinding::Disable),
            ("prefer", ChannelBinding::Prefer),
            ("require", ChannelBinding::Require),
        ],
    )?;
    let binding = asked.unwrap_or(ChannelBinding::Prefer);
    let Some(list) = values.text("require_auth") else { return Ok(binding) };
    let allowed = allowed_methods(list)?;
    let possible = if values.password().is_some() { &METHODS[..4] } else { &METHODS[..1] };
    let (kept, excluded): (Vec<_>, Vec<_>) =
        possible.iter().copied().partition(|method| allowed.contains(method));
    if excluded.is_empty() {
        return Ok(binding);
    }
    if kept == ["scram-sha-256"] && mode != TlsMode::Disable && binding != ChannelBinding::Disable {
        return Ok(ChannelBinding::Require);
    }
    Err(Error::configuration(
        "require_auth can't be held to: the driver can require scram-sha-256 over TLS with channel \
         binding, or, without a password, none; choose one of them or leave the parameter out",
    ))
}

/// The methods in a list of some, or of all but some.
fn allowed_methods(list: &str) -> Result<Vec<&'static str>> {
    let names: Vec<_> = list.split(',').collect();
    let negated = names.iter().filter(|name| name.starts_with('!')).count();
    let mut named = Vec::new();
    for name in &names {
        let method = METHODS.iter().find(|method| **method == name.trim_start_matches('!'));
        named.push(*method.ok_or_else(|| {
            Error::configuration(format!("require_auth must be a list of {}", METHODS.join(", ")))
        })?);
    }
    match negated {
        0 => Ok(named),
        all if all == names.len() => {
            Ok(METHODS.into_iter().filter(|method| !named.contains(method)).collect())
        }
        _ => Err(Error::configuration(
            "require_auth must have a ! before each method, or before none",
        )),
    }
}
