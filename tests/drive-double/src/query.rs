//! The search language of `files.list` (parameter `q`), as far as a client of files uses it: terms on `name`,
//! `mimeType`, `trashed`, `parents` and `appProperties`, joined by `and`. Everything else of the language is
//! refused, as Drive refuses what it does not understand.

use std::collections::BTreeMap;

/// A parsed query: all terms hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Query {
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Term {
    /// `name = '…'`: ignores case.
    Name {
        value: String,
        equal: bool,
    },
    /// `name contains '…'`: the words of the value follow each other in the name, the last one as a prefix.
    NameContains(String),
    MimeType {
        value: String,
        equal: bool,
    },
    MimeTypeContains(String),
    Trashed(bool),
    InParents(String),
    AppProperty {
        key: String,
        value: String,
    },
}

/// What a query looks at.
pub(crate) struct Subject<'a> {
    pub(crate) name: &'a str,
    pub(crate) mime_type: &'a str,
    pub(crate) trashed: bool,
    pub(crate) parents: &'a [String],
    pub(crate) app_properties: &'a BTreeMap<String, String>,
}

impl Query {
    /// Reads a query; an empty one matches everything.
    ///
    /// # Errors
    /// What is wrong with it, in words for the log: Drive itself says `Invalid Value` and no more.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let tokens = tokens(text)?;
        if tokens.is_empty() {
            return Ok(Self::default());
        }
        let mut rest = tokens.as_slice();
        let mut terms = Vec::new();
        loop {
            let (term, after) = term(rest)?;
            terms.push(term);
            match after {
                [] => return Ok(Self { terms }),
                [Token::Word(and), after @ ..] if and == "and" => rest = after,
                [other, ..] => return Err(format!("{other:?} where `and` or the end was expected")),
            }
        }
    }

    pub(crate) fn matches(&self, subject: &Subject<'_>) -> bool {
        self.terms.iter().all(|term| term.matches(subject))
    }

    /// The folders named by `'…' in parents`. `root` is one of the names.
    pub(crate) fn parents_mut(&mut self) -> impl Iterator<Item = &mut String> {
        self.terms.iter_mut().filter_map(|term| match term {
            Term::InParents(id) => Some(id),
            _ => None,
        })
    }
}

impl Term {
    fn matches(&self, subject: &Subject<'_>) -> bool {
        match self {
            Self::Name { value, equal } => (subject.name.to_lowercase() == value.to_lowercase()) == *equal,
            Self::NameContains(value) => contains(subject.name, value),
            Self::MimeType { value, equal } => (subject.mime_type == value) == *equal,
            Self::MimeTypeContains(value) => subject.mime_type.starts_with(value.as_str()),
            Self::Trashed(trashed) => subject.trashed == *trashed,
            Self::InParents(id) => subject.parents.contains(id),
            Self::AppProperty { key, value } => subject.app_properties.get(key) == Some(value),
        }
    }
}

/// Whether the words of `value` follow each other among the words of `name`, the last one as a prefix.
fn contains(name: &str, value: &str) -> bool {
    let (name, value) = (words(name), words(value));
    let Some((last, first)) = value.split_last() else { return true };
    name.windows(value.len())
        .any(|window| window.iter().zip(first).all(|(a, b)| a == b) && window[first.len()].starts_with(last))
}

/// Words in lower case. An underscore is a letter of a word, as it is for Drive.
fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Sign(&'static str),
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            c if c.is_whitespace() => {}
            '\'' => tokens.push(Token::Text(quoted(&mut letters)?)),
            '=' => tokens.push(Token::Sign("=")),
            '!' if letters.next_if_eq(&'=').is_some() => tokens.push(Token::Sign("!=")),
            '{' => tokens.push(Token::Sign("{")),
            '}' => tokens.push(Token::Sign("}")),
            c if c.is_ascii_alphabetic() => {
                let mut word = String::from(c);
                while let Some(next) = letters.next_if(char::is_ascii_alphanumeric) {
                    word.push(next);
                }
                tokens.push(Token::Word(word));
            }
            other => return Err(format!("{other:?} outside of quotes")),
        }
    }
    Ok(tokens)
}

fn quoted(letters: &mut impl Iterator<Item = char>) -> Result<String, String> {
    let mut value = String::new();
    loop {
        match letters.next() {
            Some('\'') => return Ok(value),
            Some('\\') => match letters.next() {
                Some(escaped @ ('\'' | '\\')) => value.push(escaped),
                other => return Err(format!("the escape \\ before {other:?}")),
            },
            Some(letter) => value.push(letter),
            None => return Err("a quote that does not end".to_owned()),
        }
    }
}

fn term(tokens: &[Token]) -> Result<(Term, &[Token]), String> {
    use Token::{Sign, Text, Word};
    let term = match tokens {
        [Text(id), Word(within), Word(parents), rest @ ..] if within == "in" && parents == "parents" => {
            (Term::InParents(id.clone()), rest)
        }
        [Word(field), Sign(sign @ ("=" | "!=")), Text(value), rest @ ..] => {
            let (value, equal) = (value.clone(), *sign == "=");
            let term = match field.as_str() {
                "name" => Term::Name { value, equal },
                "mimeType" => Term::MimeType { value, equal },
                other => return Err(format!("the field {other} with {sign} and a text")),
            };
            (term, rest)
        }
        [Word(field), Word(contains), Text(value), rest @ ..] if contains == "contains" => {
            let term = match field.as_str() {
                "name" => Term::NameContains(value.clone()),
                "mimeType" => Term::MimeTypeContains(value.clone()),
                other => return Err(format!("the field {other} with contains")),
            };
            (term, rest)
        }
        [Word(field), Sign(sign @ ("=" | "!=")), Word(value), rest @ ..] if field == "trashed" => {
            let value = match value.as_str() {
                "true" => true,
                "false" => false,
                other => return Err(format!("trashed {sign} {other}")),
            };
            (Term::Trashed(value == (*sign == "=")), rest)
        }
        [
            Word(field),
            Word(has),
            Sign("{"),
            Word(key_word),
            Sign("="),
            Text(key),
            Word(and),
            Word(value_word),
            Sign("="),
            Text(value),
            Sign("}"),
            rest @ ..,
        ] if field == "appProperties"
            && has == "has"
            && key_word == "key"
            && and == "and"
            && value_word == "value" =>
        {
            (Term::AppProperty { key: key.clone(), value: value.clone() }, rest)
        }
        other => return Err(format!("a term that begins {:?}", &other[..other.len().min(3)])),
    };
    Ok(term)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(query: &str, name: &str) -> bool {
        let parents = ["P".to_owned(), "it's\\".to_owned()];
        let app_properties = BTreeMap::from([("kind".to_owned(), "pack".to_owned())]);
        let subject = Subject {
            name,
            mime_type: "application/octet-stream",
            trashed: false,
            parents: &parents,
            app_properties: &app_properties,
        };
        Query::parse(query).unwrap().matches(&subject)
    }

    #[test]
    fn equal_names_ignore_case_and_read_escapes() {
        assert!(matches("name = 'Config'", "config"));
        assert!(!matches("name = 'Config'", "config2"));
        assert!(!matches("name != 'CONFIG'", "config"));
        assert!(matches(r"name = 'it\'s a \\ backslash'", r"it's a \ backslash"));
        assert!(matches(r"'it\'s\\' in parents", "x"));
    }

    #[test]
    fn contains_matches_prefixes_of_words_only() {
        assert!(matches("name contains 'Hello'", "HelloWorld"));
        assert!(!matches("name contains 'World'", "HelloWorld"));
        assert!(matches("name contains 'wor'", "hello world"));
        assert!(matches("name contains 'packs-ab'", "lifeboat-packs-abcd"));
        assert!(!matches("name contains 'packs-bc'", "lifeboat-packs-abcd"));
        assert!(!matches("name contains 'world'", "hello_world"));
    }

    #[test]
    fn terms_are_joined() {
        assert!(matches("'P' in parents and trashed = false and mimeType != 'folder'", "x"));
        assert!(!matches("'P' in parents and trashed=true", "x"));
        assert!(matches("trashed!=true", "x"));
        assert!(!matches("'Q' in parents", "x"));
        assert!(matches("appProperties has { key='kind' and value='pack' }", "x"));
        assert!(!matches("appProperties has { key='kind' and value='meta' }", "x"));
        assert!(matches("  ", "x"));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let wrong = [
            "name",
            "name =",
            "name = 'a",
            "name = 'a' and",
            "name = 'a' trashed = false",
            "name = 'a' or name = 'b'",
            "not trashed = false",
            "name = \"a\"",
            "title = 'a'",
            "name > 'a'",
            "trashed = maybe",
            "'a' in owners",
            r"name = 'a\n'",
            r"name = 'it's'",
            "size contains '1'",
            "name = 'a' AND trashed = false",
        ];
        for query in wrong {
            assert!(Query::parse(query).is_err(), "{query} was understood");
        }
    }
}
