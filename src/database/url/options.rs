//! The server's settings that the parameter `options` has.

use std::time::Duration;

use crate::database::url::timeouts::duration;
use crate::error::{Error, Result};

/// What else the server's command line takes is for those who start it.
const ONLY_SETTINGS: &str =
    "options can only have settings: -c name=value or --name=value, with %20 between them";

/// The settings of `options`, and the statement timeout apart from them.
pub(super) struct Options {
    pub(super) settings: Vec<(String, String)>,
    pub(super) statement_timeout: Option<Duration>,
}

impl Options {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let (timeouts, settings) = settings(text)?
            .into_iter()
            .partition::<Vec<_>, _>(|(name, _)| name == "statement_timeout");
        let timeouts: Result<Vec<_>> =
            timeouts.iter().map(|(name, value)| duration(name, value)).collect();
        Ok(Self { settings, statement_timeout: timeouts?.pop() })
    }
}

/// The settings in `text`, in its order, as the server would read them.
fn settings(text: &str) -> Result<Vec<(String, String)>> {
    let arguments = split(text);
    let mut arguments = arguments.iter().map(String::as_str);
    let mut settings = Vec::new();
    while let Some(argument) = arguments.next() {
        let setting = match (argument.strip_prefix("--"), argument.strip_prefix("-c")) {
            (Some(setting), _) => setting,
            (_, Some("")) => arguments.next().unwrap_or_default(),
            (_, Some(setting)) => setting,
            (None, None) => return Err(Error::configuration(ONLY_SETTINGS)),
        };
        let (name, value) =
            setting.split_once('=').ok_or_else(|| Error::configuration(ONLY_SETTINGS))?;
        settings.push((name.replace('-', "_").to_ascii_lowercase(), value.to_owned()));
    }
    Ok(settings)
}

/// The arguments between white space. A backslash takes the next character as it is.
fn split(text: &str) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut argument = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character.is_ascii_whitespace() {
            arguments.extend(argument.take());
            continue;
        }
        let argument = argument.get_or_insert_with(String::new);
        if character == '\\' {
            argument.extend(characters.next());
        } else {
            argument.push(character);
        }
    }
    arguments.extend(argument);
    arguments
}
