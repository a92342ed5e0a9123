//! Finds out what an image runs: from the configuration, from memory, or from a registry.
//!
//! # Guarantees
//!
//! - What is found is what the registry says under the pod's own credentials, or said within the last day if it does not
//!   answer now. What another pod may know is not told without asking.
//! - Content is what its digest says, and is remembered for its repository alone.
//! - An answer comes within the time that the query allows.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::time::{Instant, timeout_at};

use super::{
    address::holding,
    config::Found,
    descend::{Step, descend},
    digest::Digest,
    endpoint::{Endpoint, Net, Whose},
    flight::Flights,
    keychain::{Credential, Fingerprint, Keychain},
    lru::{Bounds, Lru},
    manifest::Content,
    memory::{Key, Memory, Remembered, Stage},
    metrics::{Became, Metrics},
    name::Name,
    platforms::Platforms,
    registries::{Mode, Registries},
    session::Session,
    turns::Turns,
    why::Why,
};

/// Content that is remembered.
const CONTENTS: Bounds = Bounds { count: 4096, weight: 8 << 20 };
/// Questions of all namespaces. Each may hold an answer of 128 KiB, and a few more than that.
const LOOKUPS: usize = 64;
/// Answers that one namespace waits for.
const LOOKUPS_EACH: usize = 12;
/// Left of the time for an answer when a registry is given up on: it must be written down that it was slow.
const REST: Duration = Duration::from_millis(200);

/// Time in which a registry should have answered.
const FAIR: Duration = Duration::from_secs(2);

/// Finds out what images run.
#[derive(Clone, Debug)]
pub struct Finder(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    registries: Registries,
    net: Net,
    memory: Mutex<Memory>,
    /// By repository and digest.
    contents: Mutex<Lru<String, Arc<Content>>>,
    flights: Flights<(Key, Platforms), Outcome>,
    turns: Turns,
    metrics: Metrics,
}

/// Which image, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct Query<'pod> {
    /// As the pod names it.
    pub image: &'pod str,
    /// The pod's namespace.
    pub namespace: &'pod str,
    /// Its pull secrets.
    pub keychain: &'pod Keychain,
    /// Those of them that could not be read.
    pub unread: &'pod [String],
    /// Where it may run.
    pub platforms: &'pod Platforms,
    /// When there must be an answer.
    pub deadline: Instant,
}

/// What an image runs, or a clause that says why that is not known, and what to do about it.
#[derive(Clone, Debug)]
pub struct Answered {
    /// What was asked for.
    pub result: Result<Found, String>,
    /// Whether it was said before, and the registry does not say it now.
    pub is_stale: bool,
}

/// What came of a question, and how.
#[derive(Clone, Debug)]
struct Outcome {
    became: Became,
    result: Result<Found, Why>,
}

/// A question for a registry.
struct Job {
    key: Key,
    platforms: Platforms,
    /// Of whoever asks first.
    namespace: String,
    ways: Vec<Way>,
    begun: Instant,
    deadline: Instant,
}

/// An endpoint, and the credentials for it.
struct Way {
    endpoint: Endpoint,
    credentials: Vec<Credential>,
}

impl Job {
    /// What it means that the time is over. A registry that had little of it is not to blame, and others may ask it.
    fn late(&self) -> Why {
        if self.deadline.duration_since(self.begun) < FAIR {
            return Why::Crowded;
        }
        Why::Slow { registry: self.key.name.registry.clone() }
    }
}

impl Finder {
    /// A finder that knows nothing but its configuration. `own` is the operator's namespace.
    #[must_use]
    pub fn new(registries: Registries, own: &str, metrics: Metrics) -> Self {
        Self(Arc::new(Parts {
            net: Net::new(registries.strangers.clone(), own.to_owned()),
            registries,
            memory: Mutex::new(Memory::new()),
            contents: Mutex::new(Lru::new(CONTENTS)),
            flights: Flights::new(),
            turns: Turns::new(LOOKUPS, LOOKUPS_EACH),
            metrics,
        }))
    }

    /// What the operator's configuration says that an image runs.
    #[must_use]
    pub(super) fn fixed(&self, image: &str) -> Option<Found> {
        let name = Name::parse(image)?;
        let config = self.0.registries.image(&name)?;
        self.0.metrics.lookup(Became::Static, Duration::ZERO);
        Some(Found::One(config.clone()))
    }

    /// Whether registries are asked at all.
    pub(super) fn asks(&self) -> bool {
        self.0.registries.mode == Mode::Ask
    }

    /// The answer for an image that is not looked up.
    pub(super) fn refuse(&self, why: &Why) -> Answered {
        self.0.metrics.lookup(Became::Failed(why.label()), Duration::ZERO);
        Answered { result: Err(why.to_string()), is_stale: false }
    }

    /// What an image runs.
    pub async fn find(&self, query: Query<'_>) -> Answered {
        let begun = Instant::now();
        let Outcome { became, result } = self.0.find(query).await;
        self.0.metrics.lookup(became, begun.elapsed());
        let is_stale = became == Became::Stale;
        let result = result.map_err(|why| why.told(query.unread));
        Answered { result, is_stale }
    }
}

impl Outcome {
    fn failed(why: Why) -> Self {
        Self { became: Became::Failed(why.label()), result: Err(why) }
    }

    /// Of what was looked for among what is remembered, under these circumstances.
    fn of(became: Became, result: Result<Found, Why>) -> Self {
        match result {
            Ok(found) => Self { became, result: Ok(found) },
            Err(why) => Self::failed(why),
        }
    }
}

impl Parts {
    async fn find(self: &Arc<Self>, query: Query<'_>) -> Outcome {
        let Some(name) = Name::parse(query.image) else { return Outcome::failed(Why::BadName) };
        if let Some(config) = self.registries.image(&name) {
            return Outcome::of(Became::Static, Ok(Found::One(config.clone())));
        }
        if self.registries.mode == Mode::Never {
            return Outcome::failed(Why::NotAsked);
        }
        let ways = self.ways(&name, query.keychain);
        if ways.is_empty() {
            return Outcome::failed(Why::BadName);
        }
        let credentials = Fingerprint::of(ways.iter().map(|way| way.credentials.as_slice()));
        let key = Key { name, credentials };
        let Query { namespace, platforms, deadline, .. } = query;
        if let Some(outcome) = self.known(&key, platforms) {
            return outcome;
        }
        // Before it joins others: nobody waits for the turn of another namespace.
        let Ok(turn) = timeout_at(deadline, self.turns.of(namespace)).await else {
            return self.crowded(&key, platforms);
        };
        let turn = Arc::new(turn);
        if let Some(outcome) = self.known(&key, platforms) {
            return outcome;
        }
        let registry = key.name.registry.clone();
        let flight = (key, platforms.clone());
        let mut ways = Some(ways);
        loop {
            let ask = || {
                let (key, platforms) = flight.clone();
                let deadline = deadline.checked_sub(REST).unwrap_or(deadline);
                let ways = ways.take().unwrap_or_default();
                let (namespace, begun) = (namespace.to_owned(), Instant::now());
                let job = Job { key, platforms, namespace, ways, begun, deadline };
                holding(Arc::clone(&turn), Arc::clone(self).ask(job)).boxed()
            };
            let asked = timeout_at(deadline, self.flights.join(&flight, ask)).await;
            let outcome =
                asked.unwrap_or_else(|_| Outcome::failed(Why::Slow { registry: registry.clone() }));
            // Whoever began it had less time left than this one still has.
            let is_cut = ways.is_some() && matches!(outcome.result, Err(Why::Crowded));
            if !is_cut || deadline.duration_since(Instant::now()) < FAIR {
                return outcome;
            }
        }
    }

    /// Nobody can be asked now: what was said within the last day counts.
    fn crowded(&self, key: &Key, platforms: &Platforms) -> Outcome {
        let last = self.memory().last(key, Instant::now());
        self.answer(key, last, platforms).unwrap_or_else(|| Outcome::failed(Why::Crowded))
    }

    /// Where to ask, and with which credentials.
    fn ways(&self, name: &Name, keychain: &Keychain) -> Vec<Way> {
        let way = |endpoint: Endpoint| {
            let credentials = match endpoint.credentials {
                Whose::Registry => keychain.matching(name),
                Whose::Endpoint => {
                    let repository = format!("{}{}", endpoint.prefix, name.repository);
                    keychain.matching_place(&endpoint.host(), &repository)
                }
            };
            Way { endpoint, credentials }
        };
        self.registries.endpoints(&name.registry).into_iter().map(way).collect()
    }

    /// The answer, if it is known without asking.
    fn known(&self, key: &Key, platforms: &Platforms) -> Option<Outcome> {
        let remembered = self.memory().recall(key, Instant::now());
        self.answer(key, remembered, platforms)
    }

    fn answer(&self, key: &Key, remembered: Remembered, platforms: &Platforms) -> Option<Outcome> {
        let (became, digest, broken) = match remembered {
            Remembered::Fresh(digest) => (Became::Remembered, digest, None),
            Remembered::Stale { digest, why } => (Became::Stale, digest, Some((None, why))),
            Remembered::Broken { digest, part, why } => {
                (Became::Remembered, digest, Some((Some(part), why)))
            }
            Remembered::Failed(why) => return Some(Outcome::failed(why)),
            Remembered::Nothing => return None,
        };
        let mut held = HashMap::new();
        match (self.recall(&key.name, &digest, platforms, &mut held), broken) {
            (Ok(result), _) => Some(Outcome::of(became, result)),
            // The registry is not asked now for anything, or not for this part: other platforms may need another.
            (Err(missing), Some((part, why)))
                if part.as_ref().is_none_or(|part| *part == missing) =>
            {
                Some(Outcome::failed(why))
            }
            (Err(_), _) => None,
        }
    }

    /// Goes down as far as content is remembered; what is missing is the error.
    fn recall(
        &self,
        name: &Name,
        digest: &Digest,
        platforms: &Platforms,
        held: &mut HashMap<Digest, Arc<Content>>,
    ) -> Result<Result<Found, Why>, Digest> {
        let wrong = |because: &str| Why::Wrong {
            registry: name.registry.clone(),
            because: because.to_owned(),
        };
        loop {
            let step =
                descend(digest, platforms, |digest| held.get(digest).map(Arc::as_ref), wrong);
            let missing = match step {
                Step::Done(result) => return Ok(result),
                Step::Get(missing) => missing,
            };
            let content =
                self.contents().get(&place(name, &missing)).map(|content| Arc::clone(content));
            match content {
                Some(content) => drop(held.insert(missing, content)),
                None => return Err(missing),
            }
        }
    }

    /// Asks a registry, and remembers what it says.
    async fn ask(self: Arc<Self>, job: Job) -> Outcome {
        let Job { key, platforms, deadline, .. } = &job;
        let Ok(_turn) = timeout_at(*deadline, self.turns.any()).await else {
            return self.crowded(key, platforms);
        };
        let asked = timeout_at(*deadline, self.resolve(&job)).await;
        let (digest, mut session) = match asked.unwrap_or_else(|_| Err(job.late())) {
            Ok(resolved) => resolved,
            Err(why) => {
                let counts = self.memory().fail(key, why.clone(), Stage::Name, Instant::now());
                let known = self.answer(key, counts, platforms);
                return known.unwrap_or_else(|| Outcome::failed(why));
            }
        };
        self.memory().learn(key, digest.clone(), Instant::now());
        let mut part = digest.clone();
        let gathered = self.gather(&job, &digest, &mut session, &mut part);
        let gathered = timeout_at(*deadline, gathered).await;
        let result = gathered.unwrap_or_else(|_| Err(job.late())).unwrap_or_else(|why| {
            // What the digest stands for will not change, but it may come another time.
            drop(self.memory().fail(key, why.clone(), Stage::Content(part), Instant::now()));
            Err(why)
        });
        Outcome::of(Became::Asked, result)
    }

    /// What the name stands for, by the first endpoint and credential that are told.
    async fn resolve<'job>(&'job self, job: &'job Job) -> Result<(Digest, Session<'job>), Why> {
        let mut worst = None;
        let mut tried = 0;
        for Way { endpoint, credentials } in &job.ways {
            for credential in credentials.iter().map(Some).chain([None]) {
                tried += usize::from(credential.is_some());
                let repository = &job.key.name.repository;
                let mut session =
                    Session::new(&self.net, endpoint, &job.namespace, repository, credential);
                let why = match session.digest(&job.key.name.at).await {
                    Ok(digest) => return Ok((digest, session)),
                    Err(why) => why,
                };
                let is_gone = matches!(why, Why::Unreachable { .. } | Why::Forbidden { .. });
                worst = Some(worse(worst, why));
                if is_gone {
                    break;
                }
            }
        }
        let worst = worst.unwrap_or(Why::BadName);
        Err(match worst {
            Why::Refused { registry, .. } => Why::Refused { registry, credentials: tried },
            other => other,
        })
    }

    /// Gets one missing `part` after the other until it is known what the image runs, or that it runs nowhere where the pod
    /// may.
    async fn gather(
        &self,
        job: &Job,
        digest: &Digest,
        session: &mut Session<'_>,
        part: &mut Digest,
    ) -> Result<Result<Found, Why>, Why> {
        let mut held = HashMap::new();
        loop {
            let name = &job.key.name;
            let missing = match self.recall(name, digest, &job.platforms, &mut held) {
                Ok(result) => return Ok(result),
                Err(missing) => missing,
            };
            part.clone_from(&missing);
            let content = Arc::new(session.content(&missing).await?);
            let weight = content.weight() + name.place().len() + missing.as_str().len();
            self.contents().put(place(name, &missing), Arc::clone(&content), weight);
            held.insert(missing, content);
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn contents(&self) -> MutexGuard<'_, Lru<String, Arc<Content>>> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Content of a repository. Whoever may read one repository learns nothing about another that has the same.
fn place(name: &Name, digest: &Digest) -> String {
    format!("{}@{digest}", name.place())
}

/// The one of two failures that says more: that it may pass, then that something is wrong, then that there is no such image.
fn worse(one: Option<Why>, another: Why) -> Why {
    let rank = |why: &Why| match why {
        Why::Refused { .. } => 0,
        Why::Missing { .. } => 1,
        why if why.is_passing() => 3,
        _ => 2,
    };
    match one {
        Some(one) if rank(&one) >= rank(&another) => one,
        _ => another,
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use futures_util::FutureExt;
    use prometheus_client::registry::Registry;
    use tokio::time::{Instant, advance};

    use super::{Content, Digest, Finder, Fingerprint, Key, Name, Query, Registries, place};
    use crate::image::{
        File, Found, ImageConfig, Keychain, Metrics, Platform, Platforms, manifest::read_config,
    };

    #[tokio::test(start_paused = true)]
    async fn what_a_crowded_namespace_was_told_before_still_counts() {
        drop(rustls::crypto::ring::default_provider().install_default());
        let registries = Registries::new(File::default()).unwrap();
        let finder = Finder::new(registries, "relay", Metrics::new(&mut Registry::default()));
        let name = Name::parse("registry.test/app:1").unwrap();
        let (digest, parts) = (Digest::of(b"x"), &finder.0);
        let config = ImageConfig { entrypoint: Some(vec!["/app".to_owned()]), cmd: None };
        let content = br#"{"os":"linux","architecture":"amd64","config":{"Entrypoint":["/app"]}}"#;
        let content = Arc::new(Content::Image(read_config(content).unwrap()));
        parts.contents().put(place(&name, &digest), content, 1);
        let key = Key { name, credentials: Fingerprint::of([[].as_slice()]) };
        parts.memory().learn(&key, digest, Instant::now());
        advance(Duration::from_secs(61)).await;
        let turns: Vec<_> =
            std::iter::from_fn(|| parts.turns.of("tenant").now_or_never()).collect();
        let query = Query {
            image: "registry.test/app:1",
            namespace: "tenant",
            keychain: &Keychain::default(),
            unread: &[],
            platforms: &Platforms::Of([Platform::new("linux", "amd64", "")].into()),
            deadline: Instant::now() + Duration::from_secs(3),
        };
        assert_eq!(finder.find(query).await.result, Ok(Found::One(config)));
        drop(turns);
    }
}
