//! Keeps secrets out of what is sent and said: all that are known are replaced wherever a text has them, and passwords in URLs always.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

/// What stands where a secret was.
pub const MASK: &str = "********";

/// Shorter texts are no secrets that could be kept: to replace each "a" would tell more than it hides.
const SECRET_CHARS_MIN: usize = 4;
/// A part of a URL's path that is shorter is no token.
const TOKEN_CHARS_MIN: usize = 8;

/// The known secrets. All clones know the same.
#[derive(Clone, Default)]
pub struct Redactor(Arc<Mutex<Vec<Zeroizing<String>>>>);

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} secrets)", self.0.lock().len())
    }
}

impl Redactor {
    /// From now on this is replaced.
    pub fn learn(&self, secret: &str) {
        let mut secrets = self.0.lock();
        // Lines of a secret may be shown one by one.
        for each in std::iter::once(secret).chain(secret.lines()) {
            let each = each.trim();
            if each.chars().count() >= SECRET_CHARS_MIN && !secrets.iter().any(|known| known.as_str() == each)
            {
                secrets.push(Zeroizing::new(each.to_owned()));
            }
        }
        // The longest first: none is replaced by the half.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    }

    /// From now on this URL is replaced, and the tokens in its path, query and user part; its host is not.
    pub fn learn_url(&self, text: &str) {
        self.learn(text);
        let Ok(url) = url::Url::parse(text) else { return };
        let password = url.password().unwrap_or_default();
        self.learn(password);
        self.learn(&percent_decode_str(password).decode_utf8_lossy());
        if url.path().len() >= TOKEN_CHARS_MIN {
            self.learn(url.path());
        }
        for part in url.path().split('/').filter(|part| is_token(part)) {
            self.learn(part);
            self.learn(&percent_decode_str(part).decode_utf8_lossy());
        }
        for (_, value) in url.query_pairs() {
            self.learn(&value);
        }
    }

    /// The text without secrets.
    pub fn redact(&self, text: &str) -> String {
        let mut text = without_passwords(text);
        for secret in self.0.lock().iter() {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), MASK);
            }
        }
        text
    }
}

/// Whether a part of a path is a token, and not a word such as `webhooks` that other texts have, too.
fn is_token(part: &str) -> bool {
    let has = |is: fn(&char) -> bool| part.chars().any(|c| is(&c));
    let is_mixed = has(char::is_ascii_uppercase) && has(char::is_ascii_lowercase);
    part.chars().count() >= TOKEN_CHARS_MIN && (has(char::is_ascii_digit) || is_mixed)
}

/// The text with passwords in URLs (`https://user:password@host/`) replaced.
fn without_passwords(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        clean.push_str(before);
        clean.push_str("://");
        let end = after.find(|c: char| c.is_whitespace() || "/?#\"'<>`".contains(c)).unwrap_or(after.len());
        let (authority, behind) = after.split_at(end);
        match authority.rsplit_once('@').and_then(|(who, host)| Some((who.split_once(':')?.0, host))) {
            Some((user, host)) => {
                clean.extend([user, ":", MASK, "@", host]);
            }
            None => clean.push_str(authority),
        }
        rest = behind;
    }
    clean.push_str(rest);
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_replaced_whole_and_everywhere() {
        let redactor = Redactor::default();
        redactor.learn("hunter2");
        redactor.learn("hunter2-and-more");
        redactor.learn("abc");
        redactor.learn("first line\nsecond line\n");
        let text = redactor.redact("abc hunter2-and-more xhunter2x second line, first line\nsecond line");
        assert_eq!(text, format!("abc {MASK} x{MASK}x {MASK}, {MASK}"));
        assert!(!format!("{redactor:?}").contains("hunter"));
        let clone = redactor.clone();
        redactor.learn("later on");
        assert_eq!(clone.redact("later on"), MASK);
    }

    #[test]
    fn the_tokens_of_a_url_are_replaced_and_its_host_is_not() {
        let redactor = Redactor::default();
        redactor.learn_url("https://discord.com/api/webhooks/112233445566778899/AbCdEf-0123456789?key=wxyz");
        for leak in [
            "https://discord.com/api/webhooks/112233445566778899/AbCdEf-0123456789?key=wxyz",
            "POST /api/webhooks/112233445566778899/AbCdEf-0123456789 HTTP/1.1",
            "token AbCdEf-0123456789",
            "wxyz",
        ] {
            let text = redactor.redact(leak);
            assert!(!text.contains("AbCdEf") && !text.contains("wxyz"), "{text}");
        }
        assert_eq!(redactor.redact("webhooks of discord.com"), "webhooks of discord.com");
    }

    #[test]
    fn passwords_in_urls_are_replaced_even_if_nobody_knew_them() {
        let text = "cannot reach postgres://me:pa:ss@w@db.example/x?y, https://a.b/c and rest://u:p@h";
        assert_eq!(
            without_passwords(text),
            format!("cannot reach postgres://me:{MASK}@db.example/x?y, https://a.b/c and rest://u:{MASK}@h")
        );
        assert_eq!(without_passwords("no url: a@b"), "no url: a@b");
    }
}
