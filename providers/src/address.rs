//! URLs of stores: `scheme://name/path?option=value&…`, taken apart the same way for every provider that has one.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::{Error, ErrorKind, Result};

/// What must not stand for itself in the value of an option.
const VALUE: &AsciiSet = &CONTROLS.add(b' ').add(b'&').add(b'#').add(b'%').add(b'+').add(b'?').add(b'"');

/// A URL in parts. Options that nobody took are an error: a misspelt one must not be passed over.
#[derive(Debug, Clone)]
pub struct Address {
    /// The whole text, for messages.
    text: String,
    /// What stands between `//` and the first `/`.
    pub name: String,
    /// What follows, without slashes at either end; empty if nothing does.
    pub path: String,
    options: Vec<(String, String)>,
    known: Vec<&'static str>,
}

impl Address {
    /// Takes the URL apart, whose scheme must be `scheme`.
    ///
    /// # Errors
    /// `Misconfigured` if it has another form.
    pub fn parse(text: &str, scheme: &str) -> Result<Self> {
        let malformed = |why: &str| Error::new(ErrorKind::Misconfigured, "open", text, why);
        let rest = text
            .split_once("://")
            .filter(|(found, _)| found.eq_ignore_ascii_case(scheme))
            .map(|(_, rest)| rest)
            .ok_or_else(|| malformed(&format!("the form is {scheme}://name/path?option=value")))?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        if place.contains('@') || place.contains('#') {
            return Err(malformed("no user, password or fragment belongs into this URL"));
        }
        let (name, path) = place.split_once('/').unwrap_or((place, ""));
        let decode = |part: &str| {
            let decoded = percent_decode_str(part).decode_utf8().map(|text| text.into_owned());
            decoded.map_err(|_| malformed("it is not UTF-8 when decoded"))
        };
        let mut options: Vec<(String, String)> = Vec::new();
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let (key, value) = option.split_once('=').ok_or_else(|| {
                malformed(&format!("`{option}` is no option: write name=value, joined by `&`"))
            })?;
            let (key, value) = (decode(key)?, decode(value)?);
            if options.iter().any(|(other, _)| *other == key) {
                return Err(malformed(&format!("the option {key} is given twice")));
            }
            options.push((key, value));
        }
        Ok(Self {
            text: text.to_owned(),
            name: decode(name)?,
            path: decode(path.trim_matches('/'))?,
            options,
            known: Vec::new(),
        })
    }

    /// Takes the value of an option; `None` if it is not given.
    pub fn take(&mut self, key: &'static str) -> Option<String> {
        self.known.push(key);
        let at = self.options.iter().position(|(name, _)| name == key)?;
        Some(self.options.swap_remove(at).1)
    }

    /// Takes an option that is `yes` or `no`.
    ///
    /// # Errors
    /// `Misconfigured` for another value.
    pub fn take_bool(&mut self, key: &'static str) -> Result<Option<bool>> {
        match self.take(key).as_deref() {
            None => Ok(None),
            Some("yes" | "true" | "1") => Ok(Some(true)),
            Some("no" | "false" | "0") => Ok(Some(false)),
            Some(other) => Err(self.refuse(format_args!("{key}={other}: write {key}=yes or {key}=no"))),
        }
    }

    /// That all options were taken.
    ///
    /// # Errors
    /// `Misconfigured` that names an option nobody knows, and those that are known.
    pub fn finish(&self) -> Result<()> {
        let Some((unknown, _)) = self.options.first() else { return Ok(()) };
        let known = self.known.join(", ");
        Err(self.refuse(format_args!("there is no option `{unknown}`; known are {known}")))
    }

    /// The error that this URL cannot be used, for a reason.
    pub fn refuse(&self, why: impl std::fmt::Display) -> Error {
        Error::new(ErrorKind::Misconfigured, "open", &self.text, why)
    }
}

/// A value as it is written in a URL's options.
pub fn encode_value(value: &str) -> String {
    utf8_percent_encode(value, VALUE).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_taken_apart_and_decoded() {
        let mut address =
            Address::parse("S3://bucket/a%20b/c/?endpoint=http://h:1/&path-style=yes", "s3").unwrap();
        assert_eq!((address.name.as_str(), address.path.as_str()), ("bucket", "a b/c"));
        assert_eq!(address.take("endpoint").as_deref(), Some("http://h:1/"));
        assert_eq!(address.take_bool("path-style").unwrap(), Some(true));
        assert_eq!(address.take("region"), None);
        address.finish().unwrap();
        let value = "http://h:1/?a=b&c#d%";
        let address = format!("s3://b?x={}", encode_value(value));
        assert_eq!(Address::parse(&address, "s3").unwrap().take("x").as_deref(), Some(value));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, word) in [
            ("gdrive://x", "s3://name"),
            ("s3:bucket", "s3://name"),
            ("s3://me:secret@bucket", "no user"),
            ("s3://bucket?region", "name=value"),
            ("s3://bucket?a=1&a=2", "twice"),
            ("s3://bucket?a=%ff", "UTF-8"),
        ] {
            let error = Address::parse(text, "s3").unwrap_err();
            assert!(error.to_string().contains(word), "{text}: {error}");
        }
        let mut address = Address::parse("s3://bucket?regoin=x", "s3").unwrap();
        assert_eq!(address.take("region"), None);
        let error = address.finish().unwrap_err().to_string();
        assert!(error.contains("`regoin`") && error.contains("region"), "{error}");
        let mut address = Address::parse("s3://bucket?path-style=maybe", "s3").unwrap();
        assert!(address.take_bool("path-style").is_err());
    }
}
