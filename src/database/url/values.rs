//! What a URL says for each parameter, wherever it stands in it.

use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::collections::HashMap;

use crate::database::url::parameters::{self, Treatment};
use crate::database::url::text::Text;
use crate::error::{Cause, Error, Result};

/// The values of a URL's parameters. As in libpq, the last of a name counts, and the part behind
/// the question mark comes last.
#[derive(Default)]
pub(super) struct Values {
    texts: HashMap<&'static str, String>,
    password: Option<Vec<u8>>,
}

impl Values {
    pub(super) fn read(url: &str) -> Result<Self> {
        let text = Text::split(url)?;
        let mut values = Self::default();
        for (name, text) in [
            ("user", text.user),
            ("host", Some(&*text.hosts)),
            ("port", Some(&*text.ports)),
            ("dbname", text.database),
        ] {
            values.set(name, text.unwrap_or_default())?;
        }
        values.set_password(text.password);
        let mut unknown = None;
        let mut has_password = false;
        for option in text.options.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let name = decoded(name)?;
            match parameters::find(&name) {
                None => unknown = unknown.or(Some(name)),
                Some(parameter) if parameter.name == "password" => {
                    has_password = true;
                    values.set_password(Some(value));
                }
                Some(parameter) => values.set(parameter.name, value)?,
            }
        }
        // An unknown name may be a piece of a password with an unescaped &.
        let is_safe = text.user.is_some() && !has_password;
        unknown.map_or(Ok(()), |name| Err(self::unknown(is_safe.then_some(&name))))?;
        values.require_taken()?;
        Ok(values)
    }

    fn set(&mut self, name: &'static str, text: &str) -> Result<()> {
        self.texts.insert(name, decoded(text)?.into_owned());
        Ok(())
    }

    fn set_password(&mut self, text: Option<&str>) {
        if let Some(text) = text {
            self.password = Some(percent_decode_str(text).collect());
        }
    }

    fn require_taken(&self) -> Result<()> {
        for parameter in parameters::PARAMETERS {
            if parameter.treatment == Treatment::Refused && self.text(parameter.name).is_some() {
                let message = format!("{} can't be used: {}", parameter.name, parameter.note);
                return Err(Error::configuration(message));
            }
        }
        Ok(())
    }

    /// The password, which needn't be UTF-8.
    pub(super) fn password(&self) -> Option<&[u8]> {
        self.password.as_deref().filter(|password| !password.is_empty())
    }

    /// The value of a parameter. An empty one counts as none, as in libpq.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        debug_assert!(parameters::find(name).is_some(), "{name}");
        self.texts.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// The value of a parameter that takes an integer.
    pub(super) fn integer(&self, name: &str) -> Result<Option<i32>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let number = text.trim().parse().map_err(|error| {
            Error::configuration(Cause::new(format!("{name} must be an integer"), error))
        })?;
        Ok(Some(number))
    }

    /// The value of a parameter that takes one of these words.
    pub(super) fn choice<T: Copy>(&self, name: &str, choices: &[(&str, T)]) -> Result<Option<T>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let choice = choices.iter().find(|(word, _)| *word == text);
        choice.map(|(_, value)| Some(*value)).ok_or_else(|| {
            let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
            Error::configuration(format!("{name} must be one of {}", words.join(", ")))
        })
    }
}

fn decoded(text: &str) -> Result<Cow<'_, str>> {
    percent_decode_str(text).decode_utf8().map_err(|error| {
        let message = "the connection URL can't be parsed: only a password may be other than UTF-8";
        Error::configuration(Cause::new(message, error))
    })
}

/// The error of a parameter that neither libpq nor this crate knows.
fn unknown(name: Option<&str>) -> Error {
    let reason = match name {
        Some("schema" | "currentSchema" | "search_path") => {
            "write options=-c%20search_path%3DNAME for a schema".to_owned()
        }
        Some(name) => format!("libpq has no parameter {name}: correct it or leave it out"),
        None => {
            "libpq has no such parameter: correct it or leave it out, and write %26 for & in a \
                 password"
                .to_owned()
        }
    };
    Error::configuration(format!("the connection URL can't be parsed: {reason}"))
}
