//! Flags and environment, and what they mean.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use clap::{Parser, ValueEnum};

use crate::store::StoreUrl;

/// Keeps log streams and serves them over HTTP.
#[derive(Clone, Debug, Parser)]
#[command(name = "relay-log-service", version)]
pub struct Flags {
    /// Where to listen: `IP:PORT` (port 0 takes a free one) or `unix:/path`
    #[arg(long, env = "RELAY_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDR")]
    listen: Listen,
    /// Where to keep the logs: `file:///DIR`, `memory:` or `gs://BUCKET/PREFIX`
    #[arg(long, env = "RELAY_STORE", value_name = "URL")]
    store: StoreUrl,
    /// Who may write and read: everyone (only on loopback or a unix socket), bearers of the service's
    /// own tokens, or whoever the API server of a Kubernetes cluster allows
    #[arg(long, env = "RELAY_AUTH", default_value = "none")]
    auth: AuthKind,
    /// With --auth kube: audience that the tokens of pods must be for
    #[arg(long, env = "RELAY_AUDIENCE", default_value = "relay", value_name = "NAME")]
    audience: String,
    /// With --auth kube: how to reach the API server, outside of its cluster
    #[arg(long, env = "RELAY_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Directory of signing keys: files `<0-255>.key` of at least 32 bytes, and `sign` with the
    /// number of the one that signs
    #[arg(long, env = "RELAY_KEY_DIR", value_name = "DIR")]
    key_dir: Option<PathBuf>,
    /// Certificate chain (PEM); with --tls-key-file the service speaks TLS
    #[arg(long, env = "RELAY_TLS_CERT_FILE", value_name = "FILE", requires = "tls_key_file")]
    tls_cert_file: Option<PathBuf>,
    /// Private key of the certificate (PEM)
    #[arg(long, env = "RELAY_TLS_KEY_FILE", value_name = "FILE", requires = "tls_cert_file")]
    tls_key_file: Option<PathBuf>,
    /// File that receives the address once the service listens
    #[arg(long, env = "RELAY_ADDRESS_FILE", value_name = "FILE")]
    address_file: Option<PathBuf>,
    /// Form of the log on stderr
    #[arg(long, env = "RELAY_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// What to log: a level, or directives such as `relay=debug`
    #[arg(long, env = "RELAY_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
}

/// What the flags mean: nothing here is left to decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where to listen.
    pub listen: Listen,
    /// Where to keep the logs.
    pub store: StoreUrl,
    /// Who may do what.
    pub auth: Auth,
    /// Certificate and key; none without TLS.
    pub tls: Option<TlsFiles>,
    /// File that receives the address.
    pub address_file: Option<PathBuf>,
    /// Form of the service's own log.
    pub log_format: LogFormat,
    /// What of it is shown.
    pub log: String,
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

/// Who may do what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Everyone who can reach the service. Without keys, stream ids end with the process.
    Open(Option<PathBuf>),
    /// Bearers of tokens that are signed with a key of this directory.
    Hmac(PathBuf),
    /// Whoever the API server of a cluster allows.
    Kube(KubeAuth),
}

/// How rights are found in a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeAuth {
    /// What the tokens of pods must be for.
    pub audience: String,
    /// How to reach the API server; as a pod does, if absent.
    pub kubeconfig: Option<PathBuf>,
    /// Directory of the keys of stream ids; without keys the ids end with the process.
    pub key_dir: Option<PathBuf>,
}

/// PEM files of the service's own certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain.
    pub certificate: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AuthKind {
    None,
    Hmac,
    Kube,
}

/// Form of the service's own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Flags that do not go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No authentication where strangers may connect.
    #[error(
        "--auth none listens on loopback or a unix socket only, not on {0}: use --auth hmac with --key-dir"
    )]
    OpenToStrangers(Listen),
    /// No keys.
    #[error("--auth hmac needs --key-dir")]
    NoKeys,
    /// People's own tokens in the clear.
    #[error(
        "--auth kube without TLS listens on loopback or a unix socket only, not on {0}: give --tls-cert-file and --tls-key-file"
    )]
    InTheClear(Listen),
    /// Tokens for nobody.
    #[error("--audience must not be empty: tokens would count that are meant for others")]
    NoAudience,
}

/// A text that is not an address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address: use IP:PORT or unix:/path")]
pub struct ListenError(String);

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(_) => Err(ListenError(text.to_owned())),
            None => text.parse().map(Self::Tcp).map_err(|_| ListenError(text.to_owned())),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

impl Listen {
    /// Whether only this machine can connect.
    fn is_private(&self) -> bool {
        match self {
            Self::Tcp(address) => match address.ip() {
                IpAddr::V6(ip) => {
                    ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback())
                }
                IpAddr::V4(ip) => ip.is_loopback(),
            },
            Self::Unix(_) => true,
        }
    }
}

impl Flags {
    /// What the flags mean together.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if they contradict each other.
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let Self {
            listen,
            store,
            auth,
            audience,
            kubeconfig,
            key_dir,
            tls_cert_file,
            tls_key_file,
            address_file,
            log_format,
            log,
        } = self;
        let tls =
            tls_cert_file.zip(tls_key_file).map(|(certificate, key)| TlsFiles { certificate, key });
        let auth = match (auth, key_dir) {
            (AuthKind::None, _) if !listen.is_private() => {
                return Err(ConfigError::OpenToStrangers(listen));
            }
            (AuthKind::None, keys) => Auth::Open(keys),
            (AuthKind::Hmac, keys) => Auth::Hmac(keys.ok_or(ConfigError::NoKeys)?),
            (AuthKind::Kube, _) if tls.is_none() && !listen.is_private() => {
                return Err(ConfigError::InTheClear(listen));
            }
            (AuthKind::Kube, _) if audience.is_empty() => return Err(ConfigError::NoAudience),
            (AuthKind::Kube, key_dir) => Auth::Kube(KubeAuth { audience, kubeconfig, key_dir }),
        };
        Ok(Config { listen, store, auth, tls, address_file, log_format, log })
    }
}

#[cfg(test)]
mod tests {
    use super::{Auth, Config, ConfigError, Flags, KubeAuth};
    use clap::Parser;

    fn resolve(flags: &str) -> Result<Config, ConfigError> {
        let all = format!("relay-log-service --store memory: {flags}");
        Flags::try_parse_from(all.split(' ').filter(|flag| !flag.is_empty())).unwrap().resolve()
    }

    #[test]
    fn without_authentication_only_this_machine_can_connect() {
        for listen in ["127.0.0.1:0", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "unix:/s"] {
            let config = resolve(&format!("--listen {listen}")).unwrap();
            assert_eq!(
                (config.auth, config.listen.to_string()),
                (Auth::Open(None), listen.to_owned())
            );
        }
        for listen in ["0.0.0.0:1", "[::]:1", "192.168.0.1:1", "[::ffff:10.0.0.1]:1"] {
            let error = resolve(&format!("--listen {listen}")).unwrap_err();
            assert!(error.to_string().contains(listen), "{error}");
            assert!(resolve(&format!("--listen {listen} --auth hmac --key-dir /k")).is_ok());
        }
    }

    #[test]
    fn in_a_cluster_tokens_are_never_sent_in_the_clear() {
        let auth = |flags: &str| resolve(&format!("--auth kube {flags}")).map(|config| config.auth);
        let kube = |audience: &str| {
            let audience = audience.to_owned();
            Auth::Kube(KubeAuth { audience, kubeconfig: None, key_dir: None })
        };
        assert_eq!(auth(""), Ok(kube("relay")));
        let tls = "--listen 0.0.0.0:1 --tls-cert-file c --tls-key-file k --audience other";
        assert_eq!(auth(tls), Ok(kube("other")));
        let error = auth("--listen 0.0.0.0:1").unwrap_err();
        assert!(matches!(error, ConfigError::InTheClear(_)), "{error}");
        assert_eq!(auth("--audience="), Err(ConfigError::NoAudience));
    }

    #[test]
    fn flags_that_do_not_go_together_are_refused() {
        assert_eq!(resolve("--auth hmac"), Err(ConfigError::NoKeys));
        for flags in
            ["--listen localhost:1", "--listen unix:s", "--store s3://b", "--tls-key-file k"]
        {
            let all = format!("relay-log-service --store memory: {flags}");
            assert!(Flags::try_parse_from(all.split(' ')).is_err(), "{flags}");
        }
    }
}
