//! How soon a connection over a dead network counts as lost.

use std::time::Duration;
use tokio_postgres::Config;

use crate::database::url::values::Values;
use crate::error::{Error, Result};

/// The silence after which a server's host is asked whether it is there.
const KEEPALIVES_IDLE: Duration = Duration::from_secs(5);

/// The wait for its answer, before it is asked again.
const KEEPALIVES_INTERVAL: Duration = Duration::from_secs(2);

/// The questions without an answer after which the connection is lost.
const KEEPALIVES_COUNT: u32 = 3;

/// The longest time that sent data waits to be acknowledged.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(5);

/// The system's own idle time, which the driver doesn't leave to it.
const SYSTEM_IDLE: Duration = Duration::from_secs(2 * 60 * 60);

/// The most seconds that Linux takes between keepalives.
const MAX_SECONDS: i32 = 32_767;

/// Sets the keepalives and the user timeout. As in libpq, 0 leaves each to the system.
pub(super) fn configure(values: &Values, config: &mut Config) -> Result<()> {
    config.keepalives(values.integer("keepalives")? != Some(0));
    let idle = seconds(values, "keepalives_idle", KEEPALIVES_IDLE)?;
    config.keepalives_idle(idle.unwrap_or(SYSTEM_IDLE));
    if let Some(interval) = seconds(values, "keepalives_interval", KEEPALIVES_INTERVAL)? {
        config.keepalives_interval(interval);
    }
    let count = bounded(values, "keepalives_count", 127)?.unwrap_or(KEEPALIVES_COUNT);
    if count > 0 {
        config.keepalives_retries(count);
    }
    let timeout = bounded(values, "tcp_user_timeout", i32::MAX)?
        .map_or(TCP_USER_TIMEOUT, |milliseconds| Duration::from_millis(milliseconds.into()));
    if !timeout.is_zero() {
        config.tcp_user_timeout(timeout);
    }
    Ok(())
}

fn seconds(values: &Values, name: &str, default: Duration) -> Result<Option<Duration>> {
    let seconds = bounded(values, name, MAX_SECONDS)?;
    let duration = seconds.map_or(default, |seconds| Duration::from_secs(seconds.into()));
    Ok((!duration.is_zero()).then_some(duration))
}

/// An integer that counts as 0 where it is negative.
fn bounded(values: &Values, name: &str, most: i32) -> Result<Option<u32>> {
    match values.integer(name)? {
        Some(number) if number > most => {
            Err(Error::configuration(format!("{name} must be at most {most}")))
        }
        number => Ok(number.map(|number| u32::try_from(number).unwrap_or(0))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(options: &str) -> Result<Config> {
        let mut config = Config::new();
        let values = Values::read(&format!("postgres://db.example/?{options}"))?;
        configure(&values, &mut config).map(|()| config)
    }

    #[test]
    fn a_dead_network_is_noticed_by_default() {
        let config = configured("").unwrap();
        assert!(config.get_keepalives());
        assert_eq!(config.get_keepalives_idle(), KEEPALIVES_IDLE);
        assert_eq!(config.get_keepalives_interval(), Some(KEEPALIVES_INTERVAL));
        assert_eq!(config.get_keepalives_retries(), Some(KEEPALIVES_COUNT));
        assert_eq!(config.get_tcp_user_timeout(), Some(&TCP_USER_TIMEOUT));
    }

    #[test]
    fn units_are_libpqs_and_zero_is_the_systems_default() {
        let config = configured(
            "keepalives=1&keepalives_idle=30&keepalives_interval=7&keepalives_count=4&tcp_user_timeout=10000",
        )
        .unwrap();
        assert_eq!(config.get_keepalives_idle(), Duration::from_secs(30));
        assert_eq!(config.get_keepalives_interval(), Some(Duration::from_secs(7)));
        assert_eq!(config.get_keepalives_retries(), Some(4));
        assert_eq!(config.get_tcp_user_timeout(), Some(&Duration::from_secs(10)));

        let system = configured(
            "keepalives=0&keepalives_idle=0&keepalives_interval=-1&keepalives_count=0&tcp_user_timeout=0",
        )
        .unwrap();
        assert!(!system.get_keepalives());
        assert_eq!(system.get_keepalives_idle(), SYSTEM_IDLE);
        assert_eq!(system.get_keepalives_interval(), None);
        assert_eq!(system.get_keepalives_retries(), None);
        assert_eq!(system.get_tcp_user_timeout(), None);
    }

    #[test]
    fn what_the_system_refuses_is_refused_at_once() {
        for option in ["keepalives_idle=32768", "keepalives_interval=32768", "keepalives_count=128"]
        {
            let error = configured(option).err().unwrap().to_string();
            assert!(error.contains("must be at most"), "{option}: {error}");
        }
        for name in ["keepalives", "keepalives_idle", "tcp_user_timeout"] {
            let error = configured(&format!("{name}=5s")).err().unwrap().to_string();
            assert!(error.contains(&format!("{name} must be an integer")), "{error}");
        }
    }
}
