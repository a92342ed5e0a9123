//! Access tokens that are signed with the service's own keys: `relay token mint`.

use futures_util::future::{BoxFuture, FutureExt, ready};
use http::HeaderMap;
use relay_protocol::{
    capability::{Access, TokenClaim},
    name::{Namespace, PodName},
    write::CreateStream,
};
use tokio::time::Instant;

use super::{AuthError, Authorizer, Caller, GRANT, Identity, Keys, caller::bearer};
use crate::clock;

/// Checks tokens against a ring of keys.
#[derive(Clone, Debug)]
pub struct Hmac {
    keys: Keys,
}

impl Hmac {
    /// With keys that may be exchanged at any time.
    #[must_use]
    pub fn new(keys: Keys) -> Self {
        Self { keys }
    }

    fn claim(&self, headers: &HeaderMap) -> Result<TokenClaim, AuthError> {
        let token = bearer(headers).ok_or(AuthError::Missing)?;
        let now = clock::unix_seconds();
        TokenClaim::verify(token, &self.keys.load(), now).map_err(|_| AuthError::Denied)
    }

    fn writer(&self, headers: &HeaderMap) -> Result<Identity, AuthError> {
        let TokenClaim { namespace, access, expires: _ } = self.claim(headers)?;
        match access {
            Access::Write(pod, pod_uid) => Ok(Identity { namespace, pod, pod_uid }),
            Access::Read(_) => Err(AuthError::Denied),
        }
    }

    fn reader(
        &self,
        headers: &HeaderMap,
        wanted: &Namespace,
        pod: Option<&PodName>,
    ) -> Result<(), AuthError> {
        let TokenClaim { namespace, access, expires: _ } = self.claim(headers)?;
        let allowed = match &access {
            Access::Read(None) => true,
            Access::Read(Some(allowed)) => Some(allowed) == pod,
            Access::Write(..) => false,
        };
        if allowed && namespace == *wanted { Ok(()) } else { Err(AuthError::Denied) }
    }
}

/// Namespace, pod and uid come from the token, never from the body.
impl Authorizer for Hmac {
    fn authorize_write<'a>(
        &'a self,
        caller: &'a Caller,
        _wanted: &'a CreateStream,
    ) -> BoxFuture<'a, Result<Identity, AuthError>> {
        ready(self.writer(&caller.headers)).boxed()
    }

    fn authorize_read<'a>(
        &'a self,
        caller: &'a Caller,
        namespace: &'a Namespace,
        pod: Option<&'a PodName>,
    ) -> BoxFuture<'a, Result<Instant, AuthError>> {
        let allowed = self.reader(&caller.headers, namespace, pod);
        ready(allowed.map(|()| Instant::now() + GRANT)).boxed()
    }

    fn readable<'a>(
        &'a self,
        caller: &'a Caller,
        mut namespaces: Vec<Namespace>,
    ) -> BoxFuture<'a, Result<Vec<Namespace>, AuthError>> {
        let claim = self.claim(&caller.headers);
        let readable = claim.map(|TokenClaim { namespace, access, expires: _ }| {
            let is_allowed = matches!(access, Access::Read(None));
            namespaces.retain(|wanted| is_allowed && *wanted == namespace);
            namespaces
        });
        ready(readable).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::Hmac;
    use crate::auth::{AuthError, Keys};
    use http::{HeaderMap, header::AUTHORIZATION};
    use relay_protocol::capability::{Access, KeyId, KeyRing, TokenClaim};

    fn ring(id: u8) -> KeyRing {
        KeyRing::new(KeyId(id), vec![id; 32]).unwrap()
    }

    fn headers(access: Access, keys: &KeyRing, expires: u64) -> HeaderMap {
        let namespace = "team-a".parse().unwrap();
        let token = TokenClaim { namespace, access, expires }.sign(keys);
        [(AUTHORIZATION, format!("Bearer {token}").parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn a_token_opens_its_own_scope_and_nothing_else() {
        let auth = Hmac::new(Keys::fixed(ring(1)));
        let (team, other) = ("team-a".parse().unwrap(), "team-b".parse().unwrap());
        let (web, db) = (|| "web".parse().unwrap(), || "db".parse().unwrap());
        let read_one = headers(Access::Read(Some(web())), &ring(1), u64::MAX);
        let read_all = headers(Access::Read(None), &ring(1), u64::MAX);
        let write = headers(Access::Write(web(), None), &ring(1), u64::MAX);
        assert_eq!(auth.reader(&read_one, &team, Some(&web())), Ok(()));
        assert_eq!(auth.reader(&read_all, &team, Some(&db())), Ok(()));
        assert_eq!(auth.reader(&read_all, &team, None), Ok(()));
        assert_eq!(auth.writer(&write).unwrap().pod, web());
        for denied in [
            auth.reader(&read_one, &team, Some(&db())),
            auth.reader(&read_one, &team, None),
            auth.reader(&read_all, &other, None),
            auth.reader(&write, &team, Some(&web())),
            auth.writer(&read_all).map(drop),
            auth.writer(&headers(Access::Write(web(), None), &ring(1), 1)).map(drop),
            auth.writer(&headers(Access::Write(web(), None), &ring(2), u64::MAX)).map(drop),
        ] {
            assert_eq!(denied, Err(AuthError::Denied));
        }
    }

    #[test]
    fn without_a_token_one_is_asked_for() {
        let auth = Hmac::new(Keys::fixed(ring(1)));
        assert_eq!(auth.writer(&HeaderMap::new()), Err(AuthError::Missing));
        let basic = [(AUTHORIZATION, "Basic eDp5".parse().unwrap())].into_iter().collect();
        assert_eq!(auth.writer(&basic), Err(AuthError::Missing));
    }
}
