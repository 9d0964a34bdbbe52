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

#[cfg(test)]
mod tests {
    use super::*;
    use ChannelBinding::{Disable, Prefer, Require};

    fn read(url: &str, mode: TlsMode) -> Result<ChannelBinding> {
        channel_binding(&Values::read(url)?, mode)
    }

    #[test]
    fn what_is_required_is_held_to_or_refused() {
        let with = |options: &str, mode| read(&format!("postgres://u:p@h/?{options}"), mode);
        let without = |options: &str| read(&format!("postgres://u@h/?{options}"), TlsMode::Prefer);
        let over_tls = |options: &str| with(options, TlsMode::Prefer);
        assert_eq!(over_tls(""), Ok(Prefer));
        assert_eq!(over_tls("channel_binding=disable"), Ok(Disable));
        assert_eq!(over_tls("channel_binding=require"), Ok(Require));
        assert_eq!(over_tls("require_auth=scram-sha-256"), Ok(Require));
        assert_eq!(over_tls("require_auth=scram-sha-256,oauth"), Ok(Require));
        assert_eq!(over_tls("require_auth=!none,!password,!md5"), Ok(Require));
        assert_eq!(over_tls("require_auth=!gss,!sspi"), Ok(Prefer));
        assert_eq!(over_tls("require_auth=none,password,md5,scram-sha-256"), Ok(Prefer));
        assert_eq!(without("require_auth=none"), Ok(Prefer));
        assert_eq!(without("require_auth=!password"), Ok(Prefer));
        for refused in [
            over_tls("require_auth=md5"),
            over_tls("require_auth=!password"),
            over_tls("require_auth=none"),
            over_tls("require_auth=gss"),
            over_tls("require_auth=scram-sha-256&channel_binding=disable"),
            with("require_auth=scram-sha-256", TlsMode::Disable),
            without("require_auth=scram-sha-256"),
        ] {
            assert!(refused.unwrap_err().to_string().contains("can't be held to"));
        }
        for (list, reason) in [
            ("scram", "must be a list of none"),
            (",", "must be a list of none"),
            ("!md5,none", "before each method"),
        ] {
            let error = over_tls(&format!("require_auth={list}")).unwrap_err().to_string();
            assert!(error.contains(reason), "{list}: {error}");
        }
    }
}
