//! Keeps log streams and serves them.

use std::{future::pending, io::IsTerminal, process::ExitCode, sync::Arc};

use anyhow::{Context, Result};
use clap::Parser;
use relay_log_service::{
    api::{self, App, health::Readiness},
    auth::{Authorizer, Hmac, KeyDir, Keys, Kube, Open, kube::ApiServer},
    config::{Auth, Config, Flags, KubeAuth, LogFormat},
    hub::Hub,
    metrics::Metrics,
    server::{Listener, Server, Tls, write_address},
    store::{Failure, Store},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Gives memory back within a second, from a thread of its own, and serves zstd too. Its settings
/// stand in `.cargo/config.toml`; decision 0008 says where they do not hold.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Threads that read, sync and (de)compress: one for each of the 16 commits and 16 reads that go on
/// at once, so that neither waits for the other. With the runtime's own 512, readers that come at the
/// same time grew the process beyond 1 GB.
const BLOCKING_THREADS: usize = 32;

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One sentence with its causes: logging may not be set up yet.
            let mut stderr = std::io::stderr();
            drop(std::io::Write::write_fmt(
                &mut stderr,
                format_args!("relay-log-service: {}\n", sentence(&error)),
            ));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes. Stores repeat theirs in their own text: those are left out.
fn sentence(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| {
        match (text.is_empty(), text.contains(&cause)) {
            (true, _) => cause,
            (false, true) => text,
            (false, false) => format!("{text}: {cause}"),
        }
    })
}

fn start() -> Result<()> {
    let config = Flags::parse().resolve()?;
    raise_file_limit();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.enable_all().max_blocking_threads(BLOCKING_THREADS);
    runtime.build().context("failed to start threads")?.block_on(serve(config))
}

/// Each connection is a file, and the usual limit of 1,024 is for programs that use `select`.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Where it stays, fewer connections are served: the server says so.
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).ok();
}

async fn serve(config: Config) -> Result<()> {
    start_logging(&config)?;
    rustls::crypto::ring::default_provider().install_default().ok();
    let store = Store::open(&config.store)?;
    check(&store).await?;
    let tls = config.tls.as_ref().map(Tls::open).transpose()?;
    let Authorization { auth, keys, key_dir, api_server } = authorization(&config.auth).await?;
    let metrics = Arc::new(Metrics::default());
    let hub = Arc::new(Hub::new(store, Arc::clone(&metrics)));
    let stopping = stop_signal()?;
    let app = Arc::new(App {
        hub: Arc::clone(&hub),
        auth,
        keys: keys.clone(),
        metrics: Arc::clone(&metrics),
        stopping: stopping.clone(),
        readiness: Readiness::default(),
    });
    let listener = Listener::bind(&config.listen).await?;
    let address = listener.address().to_string();
    tracing::info!(address = %address, store = %config.store, "listening");
    if let Some(file) = &config.address_file {
        write_address(file, &address)
            .with_context(|| format!("failed to write {}", file.display()))?;
    }
    let probes = api::probes(Arc::clone(&app));
    let server = Server { listener, tls: tls.clone(), router: api::router(app), probes, metrics };
    tokio::select! {
        () = run(server, &hub, stopping) => {}
        () = hub.sweep() => {}
        () = watch_keys(key_dir, keys) => {}
        () = watch_certificates(tls, api_server) => {}
    }
    tracing::info!("stopped");
    Ok(())
}

/// Serves, and stores what is held as soon as the service is told to stop.
async fn run(server: Server, hub: &Hub, stopping: CancellationToken) {
    let closing = async {
        stopping.cancelled().await;
        hub.close().await;
    };
    tokio::join!(server.run(stopping.clone()), closing);
    // Requests that ran on may have brought more.
    hub.close().await;
}

async fn watch_keys(key_dir: Option<KeyDir>, keys: Keys) {
    match key_dir {
        Some(key_dir) => key_dir.watch(keys).await,
        None => pending().await,
    }
}

/// Takes over new certificates, and whom the API server trusts to vouch for people.
async fn watch_certificates(tls: Option<Tls>, api_server: Option<Arc<ApiServer>>) {
    let Some(tls) = tls else { return pending().await };
    let (sender, authorities) = watch::channel(String::new());
    let watching = async {
        match api_server {
            Some(api_server) => api_server.watch_client_authorities(sender).await,
            None => pending().await,
        }
    };
    tokio::join!(tls.watch(authorities), watching);
}

/// A store that cannot be written is an error at once; a full one can still be read.
async fn check(store: &Store) -> Result<()> {
    match store.probe().await {
        Err(error) if error.kind() == Failure::Full => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "the store is full: reading only");
            Ok(())
        }
        probed => probed.context("the store cannot be used"),
    }
}

/// Who may do what, and what that is watched for.
struct Authorization {
    auth: Arc<dyn Authorizer>,
    keys: Keys,
    key_dir: Option<KeyDir>,
    api_server: Option<Arc<ApiServer>>,
}

async fn authorization(auth: &Auth) -> Result<Authorization> {
    let path = match auth {
        Auth::Open(path) | Auth::Kube(KubeAuth { key_dir: path, .. }) => path.as_ref(),
        Auth::Hmac(path) => Some(path),
    };
    let (key_dir, keys) = match path {
        Some(path) => KeyDir::open(path).map(|(key_dir, keys)| (Some(key_dir), keys))?,
        None => (None, Keys::random()),
    };
    let mut api_server = None;
    let auth: Arc<dyn Authorizer> = match auth {
        Auth::Open(_) => Arc::new(Open),
        Auth::Hmac(_) => Arc::new(Hmac::new(keys.clone())),
        Auth::Kube(KubeAuth { audience, kubeconfig, key_dir: _ }) => {
            let found = Arc::new(ApiServer::find(kubeconfig.as_deref()).await?);
            api_server = Some(Arc::clone(&found));
            Arc::new(Kube::new(found, audience.clone()))
        }
    };
    Ok(Authorization { auth, keys, key_dir, api_server })
}

/// Cancelled by SIGTERM or SIGINT.
fn stop_signal() -> Result<CancellationToken> {
    let stopping = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("failed to watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to watch for SIGINT")?;
    let stopped = stopping.clone();
    // Lives as long as the process; nobody needs to wait for it.
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        stopped.cancel();
    });
    Ok(stopping)
}

fn start_logging(config: &Config) -> Result<()> {
    let filter = EnvFilter::try_new(&config.log)
        .with_context(|| format!("{:?} is not a filter for --log", config.log))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
