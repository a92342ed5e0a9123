//! Whom images may be asked for.
//!
//! Names of images come from whoever may create a pod, and registries answer with the addresses of others. Neither may make
//! the operator ask what only it can reach: programs on its machine, and the services that clouds put next to each machine,
//! which give away the machine's identity. Addresses are checked where a name has become addresses, and the connection
//! goes to what was checked: a name that changes its addresses does not get past that.

use std::{
    error::Error,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    sync::Arc,
};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};
use tokio::{sync::Semaphore, task::spawn_blocking};
use url::Host;

use super::turns::Turn;

/// Services of clouds that are not link-local.
const CLOUD: [IpAddr; 5] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

/// All addresses of a name are of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Forbidden(pub(super) &'static str);

const LOCAL: Forbidden =
    Forbidden("it is this machine, or one next to it, which is something else on a node");

/// Whether an address is this machine's, or one of those that lie next to every machine.
pub(super) fn check(address: IpAddr) -> Result<(), Forbidden> {
    let is_local = match address {
        IpAddr::V4(address) => is_local(address),
        IpAddr::V6(address) => {
            if let Some(address) = embedded(address) {
                return check(IpAddr::V4(address));
            }
            let [first, ..] = address.segments();
            address.is_loopback()
                || address.is_unspecified()
                || address.is_multicast()
                // fe80::/10, and fec0::/10, which it was before.
                || first & 0xff80 == 0xfe80
        }
    };
    if is_local || CLOUD.contains(&address) { Err(LOCAL) } else { Ok(()) }
}

fn is_local(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_multicast()
        || first == 0
}

/// The address of the older kind that one of the newer stands for, where something on the way may translate it.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [one, two, three, .., high, low] = address.segments();
    let of = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        // ::1 and :: are addresses themselves.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [0x64, 0xff9b, ..] => {
            Some(of(high, low))
        }
        _ if one == 0x2002 => Some(of(two, three)),
        _ => None,
    }
}

/// Whether an address that somebody else wrote may be asked: what can be told without resolving its host.
///
/// `own` is the operator's namespace, whose services are for Relay alone.
pub(super) fn check_url(url: &Url, own: &str) -> Result<(), Forbidden> {
    if url.scheme() != "https" {
        return Err(Forbidden("it is not reached by HTTPS"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Forbidden("its address holds a name or a password"));
    }
    match url.host() {
        Some(Host::Ipv4(address)) => check(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => check(IpAddr::V6(address)),
        Some(Host::Domain(name)) => check_name(name.trim_end_matches('.'), own),
        None => Err(Forbidden("its address names nobody")),
    }
}

fn check_name(name: &str, own: &str) -> Result<(), Forbidden> {
    let mut labels = name.split('.').map(str::to_ascii_lowercase).peekable();
    if labels.clone().last().as_deref() == Some("localhost") {
        return Err(LOCAL);
    }
    while let Some(label) = labels.next() {
        if label == own && labels.peek().is_some_and(|next| next == "svc") {
            return Err(Forbidden("it is in the operator's own namespace"));
        }
    }
    Ok(())
}

/// How names become addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resolver {
    /// Names that others wrote. They are whole: what a cluster appends for its own pods a node does not. Local addresses are
    /// of no use.
    Strangers,
    /// Names that the operator's configuration says, as its pod understands them. Local addresses are of no use.
    Configured,
    /// The same, and every address is good.
    Local,
}

/// Questions for addresses that are under way, of names that others wrote and of those of the configuration. The system's
/// resolver has a thread of its own for each, and does not let go of it when nobody waits any more.
static STRANGERS: Semaphore = Semaphore::const_new(128);
static CONFIGURED: Semaphore = Semaphore::const_new(64);

tokio::task_local! {
    /// What a question for addresses keeps as long as it has its thread.
    static HELD: Arc<Turn>;
}

/// The same future, whose questions for addresses keep a turn until they are answered, also when nobody waits for it
/// any more: so whoever names hosts that are slow to be found takes threads from nobody else.
pub(super) fn holding<F: Future>(turn: Arc<Turn>, future: F) -> impl Future<Output = F::Output> {
    HELD.scope(turn, future)
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = *self;
        let (whole, places) = match resolver {
            Self::Strangers => (format!("{}.", name.as_str().trim_end_matches('.')), &STRANGERS),
            Self::Configured | Self::Local => (name.as_str().to_owned(), &CONFIGURED),
        };
        let found = in_a_thread(places, move || (whole, 0).to_socket_addrs());
        Box::pin(async move {
            let usable = resolver.usable(found.await?.collect())?;
            Ok(Box::new(usable.into_iter()) as Addrs)
        })
    }
}

/// Asks the system's resolver, when there is a place for one more question.
fn in_a_thread<T: Send + 'static>(
    places: &'static Semaphore,
    question: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> impl Future<Output = Result<T, Box<dyn Error + Send + Sync>>> + Send {
    let held = HELD.try_with(Arc::clone).ok();
    async move {
        let place = places.acquire().await?;
        let asked = spawn_blocking(move || {
            let answer = question();
            drop((place, held));
            answer
        });
        Ok(asked.await??)
    }
}

impl Resolver {
    /// Those of the addresses that may be connected to.
    fn usable(self, mut found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Forbidden> {
        if self != Self::Local {
            let before = found.len();
            found.retain(|address| check(address.ip()).is_ok());
            if found.is_empty() && before > 0 {
                return Err(LOCAL);
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::{LOCAL, Resolver, check, check_url, holding, in_a_thread};
    use crate::image::turns::Turns;
    use futures_util::FutureExt;
    use proptest::prelude::*;
    use reqwest::Url;
    use std::{
        net::{IpAddr, Ipv4Addr},
        sync::{Arc, mpsc::sync_channel},
        time::Duration,
    };
    use tokio::{sync::Semaphore, time::timeout};

    #[tokio::test]
    async fn a_name_that_is_slow_to_be_found_keeps_its_turn_when_nobody_waits_any_more() {
        static PLACES: Semaphore = Semaphore::const_new(1);
        let turns = Turns::new(9, 9);
        let (answer, answered) = sync_channel::<()>(1);
        let mut left = std::iter::from_fn(|| turns.of("greedy").now_or_never());
        let turn = left.next().expect("nobody else is there");
        let others: Vec<_> = left.collect();
        let question = async { in_a_thread(&PLACES, move || Ok(answered.recv())).await };
        let asked = holding(Arc::new(turn), question);
        assert!(timeout(Duration::from_millis(10), asked).await.is_err(), "nobody answers");
        assert!(turns.of("greedy").now_or_never().is_none(), "its thread is there");
        assert!(turns.of("modest").now_or_never().is_some());
        let next = in_a_thread(&PLACES, || Ok(7));
        assert!(timeout(Duration::from_millis(10), next).await.is_err(), "there is no place");
        answer.send(()).expect("the thread waits");
        assert_eq!(in_a_thread(&PLACES, || Ok(7)).await.expect("an answer"), 7);
        assert!(timeout(Duration::from_mins(1), turns.of("greedy")).await.is_ok());
        drop(others);
    }

    #[test]
    fn what_is_local_is_local_however_it_is_written() {
        for local in [
            "127.0.0.1",
            "127.255.255.254",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.0.1",
            "255.255.255.255",
            "224.0.0.1",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "::",
            "::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "::ffff:0:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "2002:7f00:1::",
        ] {
            assert_eq!(check(local.parse().unwrap()), Err(LOCAL), "{local}");
        }
        for good in [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.0.1",
            "100.64.0.1",
            "8.8.8.8",
            "fd00::1",
            "fd00:ec2::253",
            "2001:db8::1",
            "64:ff9b::808:808",
            "::ffff:10.0.0.1",
            "2002:808:808::1",
        ] {
            assert_eq!(check(good.parse().unwrap()), Ok(()), "{good}");
        }
    }

    #[test]
    fn addresses_that_others_write_are_checked() {
        for refused in [
            "http://ghcr.io/",
            "ftp://ghcr.io/",
            "https://me:x@ghcr.io/",
            "https://me@ghcr.io/",
            "https://localhost/",
            "https://localhost:5000/",
            "https://LOCALHOST./",
            "https://a.localhost/",
            "https://127.0.0.1:5000/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://0177.0.0.1/",
            "https://127.1/",
            "https://[::1]:5000/",
            "https://[::ffff:169.254.169.254]/",
            "https://169.254.169.254/latest/meta-data",
            "https://relay-log-service.relay-system.svc/",
            "https://relay-log-service.relay-system.svc.cluster.local:8443/",
            "https://relay-log-service.Relay-System.SVC.cluster.local./",
            "data:text/plain,x",
        ] {
            let url = Url::parse(refused).unwrap();
            assert!(check_url(&url, "relay-system").is_err(), "{refused}");
        }
        for good in [
            "https://ghcr.io/v2/",
            "https://registry.other.svc.cluster.local:5000/",
            "https://10.0.0.1:5000/",
            "https://relay-system.example.com/",
            "https://svc.relay-system.example.com/",
        ] {
            let url = Url::parse(good).unwrap();
            assert_eq!(check_url(&url, "relay-system"), Ok(()), "{good}");
        }
    }

    #[test]
    fn of_several_addresses_only_the_harmless_are_connected_to() {
        let addresses = |all: &[&str]| all.iter().map(|one| one.parse().unwrap()).collect();
        let mixed = ["127.0.0.1:0", "10.0.0.1:0", "[fe80::1]:0"];
        for strict in [Resolver::Strangers, Resolver::Configured] {
            assert_eq!(strict.usable(addresses(&mixed)), Ok(addresses(&["10.0.0.1:0"])));
            assert_eq!(strict.usable(addresses(&["127.0.0.1:0", "[::1]:0"])), Err(LOCAL));
            assert_eq!(strict.usable(Vec::new()), Ok(Vec::new()));
        }
        assert_eq!(Resolver::Local.usable(addresses(&mixed)), Ok(addresses(&mixed)));
    }

    proptest! {
        #[test]
        fn an_address_in_another_form_is_no_better(bytes: [u8; 4]) {
            let four = Ipv4Addr::from(bytes);
            let mapped = IpAddr::V6(four.to_ipv6_mapped());
            prop_assert_eq!(check(mapped), check(IpAddr::V4(four)));
        }
    }
}
