//! Basic authentication against bcrypt hashes, at one bcrypt run a password rather than one a scrape.

use std::collections::{BTreeMap, HashSet};
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::hmac;
use tokio::sync::Semaphore;

/// Remembers who was let in.
pub struct Authenticator {
    /// Names entries of `admitted` so that it holds no passwords; new in every process.
    key: hmac::Key,
    /// Tags of user, hash and password that belong together. Failures are not remembered: a flood of them must not
    /// push out the scraper, and each guess must cost its bcrypt run.
    admitted: Mutex<HashSet<[u8; 32]>>,
    /// bcrypt runs at a time: guessing may take one CPU, not all.
    turns: Arc<Semaphore>,
}

/// Entries of `admitted` before it is emptied: only changed hashes ever fill it.
const ADMITTED_LIMIT: usize = 256;

impl Authenticator {
    pub fn new() -> Self {
        use std::hash::{BuildHasher as _, RandomState};
        let random = ring::rand::SystemRandom::new();
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &random).unwrap_or_else(|_| {
            // No random numbers from the kernel: the standard library's per-process keys are what is left.
            let seeds: Vec<u8> = (0u8..4).flat_map(|n| RandomState::new().hash_one(n).to_ne_bytes()).collect();
            hmac::Key::new(hmac::HMAC_SHA256, &seeds)
        });
        Self { key, admitted: Mutex::default(), turns: Arc::new(Semaphore::new(1)) }
    }

    /// Whether `hash` is a bcrypt hash.
    pub fn understands(hash: &str) -> bool {
        bcrypt::HashParts::from_str(hash).is_ok()
    }

    /// Whether the value of an `Authorization` header names one of `users` with the right password.
    ///
    /// bcrypt runs on a thread of its own. An unknown user costs as much time as a wrong password.
    pub async fn admits(&self, users: &BTreeMap<String, String>, authorization: Option<&[u8]>) -> bool {
        let Some((user, password)) = authorization.and_then(parse_basic) else { return false };
        let known = users.get(&user);
        let Some(hash) = known.or_else(|| users.values().next()).cloned() else { return false };
        let tag = self.tag(&user, &hash, &password);
        if known.is_some() && self.admitted().contains(&tag) {
            return true;
        }
        let Ok(turn) = self.turns.clone().acquire_owned().await else { return false };
        let verified = tokio::task::spawn_blocking(move || {
            let verified = bcrypt::verify(password, &hash).unwrap_or(false);
            drop(turn);
            verified
        });
        let admitted = verified.await.unwrap_or(false) && known.is_some();
        if admitted {
            let mut tags = self.admitted();
            if tags.len() >= ADMITTED_LIMIT {
                tags.clear();
            }
            tags.insert(tag);
        }
        admitted
    }

    fn admitted(&self) -> std::sync::MutexGuard<'_, HashSet<[u8; 32]>> {
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tag(&self, user: &str, hash: &str, password: &[u8]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [user.as_bytes(), hash.as_bytes(), password] {
            // Lengths keep ("ab", "c") from meaning ("a", "bc").
            context.update(&(part.len() as u64).to_ne_bytes());
            context.update(part);
        }
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }
}

/// User and password of `Basic <base64>` (RFC 7617).
fn parse_basic(authorization: &[u8]) -> Option<(String, Vec<u8>)> {
    let (scheme, encoded) = authorization.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let decoded = BASE64_STANDARD.decode(encoded.trim_ascii()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let user = String::from_utf8(decoded[..colon].to_vec()).ok()?;
    Some((user, decoded[colon + 1..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_credentials() {
        #[track_caller]
        fn check(header: &str, expected: Option<(&str, &str)>) {
            let expected = expected.map(|(user, password)| (user.to_owned(), password.as_bytes().to_vec()));
            assert_eq!(parse_basic(header.as_bytes()), expected, "{header}");
        }
        check("Basic YTpi", Some(("a", "b")));
        check("basic  YTpi ", Some(("a", "b")));
        check("Basic YTpiOmM=", Some(("a", "b:c")));
        check("Basic OmI=", Some(("", "b")));
        check("Basic YQ==", None);
        check("Basic !!!", None);
        check("Bearer YTpi", None);
        check("Basic", None);
        check("", None);
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_is_admitted_and_remembered() {
        let hash = bcrypt::hash("b", 4).unwrap();
        let users = BTreeMap::from([("a".to_owned(), hash)]);
        let authenticator = Authenticator::new();
        let basic = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
        for (credentials, expected, remembered) in [
            ("a:c", false, 0),
            ("x:b", false, 0),
            ("a:b", true, 1),
            ("a:b", true, 1),
            ("x:b", false, 1),
            ("a:", false, 1),
        ] {
            let header = basic(credentials);
            assert_eq!(authenticator.admits(&users, Some(header.as_bytes())).await, expected, "{credentials}");
            assert_eq!(authenticator.admitted().len(), remembered, "{credentials}");
        }
        assert!(!authenticator.admits(&users, None).await);
        let changed = BTreeMap::from([("a".to_owned(), bcrypt::hash("new", 4).unwrap())]);
        assert!(!authenticator.admits(&changed, Some(basic("a:b").as_bytes())).await);
    }
}
