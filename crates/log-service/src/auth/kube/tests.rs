use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::future::{BoxFuture, FutureExt, join_all};
use http::header::AUTHORIZATION;
use relay_protocol::name::{Namespace, PodName};
use tokio::time::{Instant, advance, sleep};

use super::{Kube, POD_NAME, POD_UID, Reviews, Unreachable, User};
use crate::{
    auth::{AuthError, Authorizer, Caller, ClientCertificate, Identity},
    clock,
};

/// An API server that a test changes.
#[derive(Debug, Default)]
struct Fake {
    user: Mutex<Option<User>>,
    may_read: Mutex<bool>,
    is_down: Mutex<bool>,
    /// Takes no time, if absent.
    takes: Mutex<Option<Duration>>,
    reviews: AtomicUsize,
    /// What tokens were reviewed for.
    audiences: Mutex<Vec<Option<String>>>,
}

impl Fake {
    async fn answer<T>(&self, answer: T) -> Result<T, Unreachable> {
        self.reviews.fetch_add(1, Relaxed);
        let takes = *self.takes.lock().unwrap();
        if let Some(takes) = takes {
            sleep(takes).await;
        }
        if *self.is_down.lock().unwrap() { Err(Unreachable) } else { Ok(answer) }
    }

    fn asked(&self) -> usize {
        self.reviews.swap(0, Relaxed)
    }
}

impl Reviews for Fake {
    fn token<'a>(
        &'a self,
        _token: &'a str,
        audience: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Option<User>, Unreachable>> {
        self.audiences.lock().unwrap().push(audience.map(ToOwned::to_owned));
        let user = self.user.lock().unwrap().clone();
        self.answer(user).boxed()
    }

    fn may_read<'a>(
        &'a self,
        _user: &'a User,
        namespace: &'a Namespace,
        _pod: Option<&'a PodName>,
    ) -> BoxFuture<'a, Result<bool, Unreachable>> {
        let is_secret = namespace.as_str().starts_with("secret");
        let may_read = *self.may_read.lock().unwrap() && !is_secret;
        self.answer(may_read).boxed()
    }
}

fn set<T>(cell: &Mutex<T>, value: T) {
    *cell.lock().unwrap() = value;
}

fn service_account(pod: Option<(&str, &str)>) -> User {
    let extra = pod.into_iter().flat_map(|(pod, uid)| [(POD_NAME, pod), (POD_UID, uid)]);
    let extra = extra.map(|(name, value)| (name.to_owned(), vec![value.to_owned()])).collect();
    User { name: "system:serviceaccount:team-a:default".to_owned(), extra, ..User::default() }
}

fn lab() -> (Arc<Fake>, Kube) {
    let fake = Arc::new(Fake::default());
    set(&fake.user, Some(service_account(Some(("web-0", "uid-1")))));
    set(&fake.may_read, true);
    let kube = Kube::new(Arc::clone(&fake) as Arc<dyn Reviews>, "relay".to_owned());
    (fake, kube)
}

/// A token for an audience that ends in so many seconds; `number` tells it from others.
fn jwt(audience: &str, seconds: u64, number: usize) -> String {
    let ends = clock::unix_seconds() + seconds;
    let claims = format!(r#"{{"aud":["{audience}"],"exp":{ends},"n":{number}}}"#);
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
}

fn with(token: &str) -> Caller {
    let headers = [(AUTHORIZATION, format!("Bearer {token}").parse().unwrap())];
    Caller { headers: headers.into_iter().collect(), certificate: None }
}

async fn write(kube: &Kube, token: &str) -> Result<Identity, AuthError> {
    let wanted = serde_json::from_str(r#"{"name":"stdout","namespace":"x","pod":"y"}"#).unwrap();
    kube.authorize_write(&with(token), &wanted).await
}

async fn read(kube: &Kube, caller: &Caller) -> Result<Duration, AuthError> {
    let (namespace, pod) = ("team-a".parse().unwrap(), "web-0".parse().unwrap());
    let until = kube.authorize_read(caller, &namespace, Some(&pod)).await?;
    Ok(until - Instant::now())
}

#[tokio::test(start_paused = true)]
async fn a_writer_is_who_its_token_says_whatever_it_asks_for() {
    let (fake, kube) = lab();
    let identity = write(&kube, &jwt("relay", 600, 1)).await.unwrap();
    let names = (identity.namespace.as_str(), identity.pod.as_str(), identity.pod_uid.unwrap());
    assert_eq!(names, ("team-a", "web-0", "uid-1".parse().unwrap()));
    set(&fake.user, Some(service_account(None)));
    assert_eq!(write(&kube, &jwt("relay", 600, 2)).await, Err(AuthError::NoPod));
    let person = User { name: "jane".to_owned(), ..service_account(Some(("web-0", "uid-1"))) };
    set(&fake.user, Some(person));
    assert_eq!(write(&kube, &jwt("relay", 600, 3)).await, Err(AuthError::NoPod));
    set(&fake.user, None);
    assert_eq!(write(&kube, &jwt("relay", 600, 4)).await, Err(AuthError::Denied));
    let audiences = fake.audiences.lock().unwrap().clone();
    assert_eq!(audiences, vec![Some("relay".to_owned()); 4]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_a_pods_token_is_shown_to_nobody() {
    let (fake, kube) = lab();
    let long = "x".repeat(20_000);
    for token in ["", "opaque", long.as_str(), &jwt("other", 600, 1), &jwt("relay", 0, 1)] {
        assert_eq!(write(&kube, token).await, Err(AuthError::Denied), "{token}");
    }
    assert_eq!(fake.asked(), 0);
    let wanted = serde_json::from_str(r#"{"name":"stdout"}"#).unwrap();
    let nobody = kube.authorize_write(&Caller::default(), &wanted).await;
    assert_eq!(nobody, Err(AuthError::Missing));
    assert_eq!(read(&kube, &Caller::default()).await, Err(AuthError::Missing));
}

#[tokio::test(start_paused = true)]
async fn an_answer_holds_a_minute_and_not_beyond_the_token() {
    let (fake, kube) = lab();
    let (long, short) = (jwt("relay", 600, 1), jwt("relay", 30, 2));
    assert_eq!(read(&kube, &with(&long)).await, Ok(Duration::from_mins(1)));
    assert!(read(&kube, &with(&short)).await.unwrap() <= Duration::from_secs(30));
    assert_eq!(fake.asked(), 3, "two tokens of one user, whose right is asked for once");
    advance(Duration::from_secs(31)).await;
    assert_eq!(read(&kube, &with(&long)).await, Ok(Duration::from_secs(29)));
    assert_eq!(fake.asked(), 0);
    set(&fake.may_read, false);
    advance(Duration::from_secs(28)).await;
    assert!(read(&kube, &with(&long)).await.is_ok());
    advance(Duration::from_secs(1)).await;
    assert_eq!(read(&kube, &with(&long)).await, Err(AuthError::Denied));
    assert_eq!(fake.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_holds_ten_seconds() {
    let (fake, kube) = lab();
    set(&fake.user, None);
    for _ in 0..3 {
        assert_eq!(write(&kube, &jwt("relay", 600, 1)).await, Err(AuthError::Denied));
    }
    assert_eq!(fake.asked(), 1);
    set(&fake.user, Some(service_account(Some(("web-0", "uid-1")))));
    advance(Duration::from_secs(10)).await;
    assert!(write(&kube, &jwt("relay", 600, 1)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn those_who_ask_the_same_at_once_share_one_question() {
    let (fake, kube) = lab();
    set(&fake.takes, Some(Duration::from_millis(100)));
    let token = jwt("relay", 600, 1);
    let all = join_all((0..50).map(|_| write(&kube, &token))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(fake.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_the_api_server_rights_hold_for_five_minutes_and_none_are_given() {
    let (fake, kube) = lab();
    let (known, new) = (with(&jwt("relay", 3_600, 1)), with(&jwt("relay", 3_600, 2)));
    assert!(read(&kube, &known).await.is_ok());
    set(&fake.is_down, true);
    for _ in 0..9 {
        advance(Duration::from_secs(31)).await;
        assert!(read(&kube, &known).await.unwrap() <= Duration::from_mins(1));
        assert_eq!(read(&kube, &new).await, Err(AuthError::Unchecked));
    }
    advance(Duration::from_secs(31)).await;
    assert_eq!(read(&kube, &known).await, Err(AuthError::Unchecked));
    set(&fake.is_down, false);
    advance(Duration::from_secs(2)).await;
    assert!(read(&kube, &known).await.is_ok());
    assert!(read(&kube, &new).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_token_that_ends_while_the_api_server_is_away_ends() {
    let (fake, kube) = lab();
    let short = jwt("relay", 90, 1);
    assert!(write(&kube, &short).await.is_ok());
    set(&fake.is_down, true);
    advance(Duration::from_secs(61)).await;
    let mut kept = with(&short);
    assert!(kube.writer(&kept.headers).await.is_ok());
    // The wall clock does not move with the test's: a token that is over says so itself.
    kept = with(&jwt("relay", 0, 1));
    assert_eq!(kube.writer(&kept.headers).await, Err(AuthError::Denied));
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_never_answers_holds_nobody_up_for_long() {
    let (fake, kube) = lab();
    set(&fake.takes, Some(Duration::from_hours(1)));
    let begun = Instant::now();
    let tokens: Vec<String> = (0..100).map(|number| jwt("relay", 600, number)).collect();
    let all = join_all(tokens.iter().map(|token| write(&kube, token))).await;
    assert!(all.iter().all(|answer| *answer == Err(AuthError::Unchecked)));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn made_up_tokens_do_not_fill_memory() {
    let (fake, kube) = lab();
    set(&fake.user, None);
    for number in 0..20_000 {
        let answer = read(&kube, &with(&number.to_string())).await;
        assert_eq!(answer, Err(AuthError::Denied));
    }
    assert!(kube.users.length() <= super::cache::MAX_ANSWERS, "{}", kube.users.length());
}

#[tokio::test(start_paused = true)]
async fn people_read_with_what_they_show_the_api_server() {
    let (fake, kube) = lab();
    for (token, audience) in [
        ("opaque".to_owned(), None),
        (jwt("https://kubernetes.default.svc", 600, 1), None),
        (jwt("relay", 600, 1), Some("relay".to_owned())),
    ] {
        assert!(read(&kube, &with(&token)).await.is_ok());
        assert_eq!(fake.audiences.lock().unwrap().pop(), Some(audience));
    }
}

#[tokio::test(start_paused = true)]
async fn a_certificate_counts_until_it_ends_and_only_without_a_token() {
    let (fake, kube) = lab();
    let certificate = |expires| {
        let user = "jane".to_owned();
        Some(Arc::new(ClientCertificate { user, groups: vec![], expires, fingerprint: [0; 32] }))
    };
    let now = clock::unix_seconds();
    let caller = Caller { certificate: certificate(now + 600), ..Caller::default() };
    assert!(read(&kube, &caller).await.is_ok());
    let soon = Caller { certificate: certificate(now + 20), ..Caller::default() };
    assert!(read(&kube, &soon).await.unwrap() <= Duration::from_secs(20));
    let ended = Caller { certificate: certificate(now - 1), ..Caller::default() };
    assert_eq!(read(&kube, &ended).await, Err(AuthError::Denied));
    set(&fake.user, None);
    let both = Caller { certificate: certificate(now + 600), ..with("unknown") };
    assert_eq!(read(&kube, &both).await, Err(AuthError::Denied));
    // What is written belongs to a pod, which has a token.
    let wanted = serde_json::from_str(r#"{"name":"stdout"}"#).unwrap();
    assert_eq!(kube.authorize_write(&caller, &wanted).await, Err(AuthError::Missing));
}

#[tokio::test(start_paused = true)]
async fn of_many_namespaces_those_are_told_that_the_caller_may_read_all_pods_of() {
    let (fake, kube) = lab();
    let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<_>>();
    let all = names(&["a", "secret-1", "b", "secret-2"]);
    let caller = with(&jwt("relay", 600, 1));
    assert_eq!(kube.readable(&caller, all.clone()).await, Ok(names(&["a", "b"])));
    assert_eq!(fake.asked(), 1 + 4);
    assert_eq!(kube.readable(&caller, all.clone()).await, Ok(names(&["a", "b"])));
    assert_eq!(fake.asked(), 0, "what was found holds for a while");
    // Nobody learns that there is nothing.
    let nobody = Caller::default();
    assert_eq!(Authorizer::readable(&kube, &nobody, Vec::new()).await, Err(AuthError::Missing));
    set(&fake.user, None);
    let stranger = with(&jwt("relay", 600, 2));
    assert_eq!(kube.readable(&stranger, Vec::new()).await, Err(AuthError::Denied));
    set(&fake.user, Some(service_account(None)));
    set(&fake.is_down, true);
    assert_eq!(kube.readable(&with(&jwt("relay", 600, 3)), all).await, Err(AuthError::Unchecked));
}
