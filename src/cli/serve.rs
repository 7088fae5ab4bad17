//! `tutti serve`.

use std::{io::Write, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use axum::http::HeaderValue;
use tokio::{net::TcpListener, signal};
use tutti::{
    config::Config,
    engine::Generate,
    server::{self, ApiKeys, ServerConfig},
    store::Bars,
};

use super::{load, report};

/// API keys beside those of the file, between commas.
const ENV_API_KEYS: &str = "TUTTI_API_KEYS";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// An ensemble with its members, or a model alone; may be given again [default: what the
    /// configuration says, else the default ensemble]
    #[arg(long, value_name = "NAME")]
    model: Vec<String>,
    /// The address to listen on [default: the configuration's, else 127.0.0.1]
    #[arg(long)]
    host: Option<String>,
    /// The port to listen on, 0 for any free one [default: the configuration's, else 8080]
    #[arg(long)]
    port: Option<u16>,
}

pub(super) fn run(config: &Config, args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    runtime.block_on(serve(config, args))
}

async fn serve(config: &Config, args: &Args) -> anyhow::Result<()> {
    let settings = &config.server;
    let host = args.host.as_ref().unwrap_or(&settings.host);
    let port = args.port.unwrap_or(settings.port);
    // Before anything is loaded, so that a port in use is told at once.
    let listener = TcpListener::bind((host.as_str(), port)).await.with_context(|| {
        format!("cannot listen on {host}:{port}; choose another with --host and --port")
    })?;
    let server = server_config(config)?;
    let named = if args.model.is_empty() { &config.load } else { &args.model };
    let names: Vec<&str> = named.iter().flat_map(|name| load::with_members(config, name)).collect();
    let engine = Arc::new(load::engine(config, &names, &Bars::stderr())?);
    let names: Vec<_> = engine.models().into_iter().map(|card| card.name).collect();
    let (mut out, address) = (std::io::stdout(), listener.local_addr()?);
    writeln!(out, "serving {} on http://{address}/v1", names.join(", "))?;
    out.flush()?;
    Ok(server::serve(listener, engine, server, stop_signal()).await?)
}

fn server_config(config: &Config) -> anyhow::Result<ServerConfig> {
    let settings = &config.server;
    let origin = |origin: &String| {
        HeaderValue::from_str(origin).with_context(|| format!("{origin} cannot be an origin"))
    };
    Ok(ServerConfig {
        sampling: config.sampling.clone(),
        max_body_bytes: settings.max_body_bytes,
        max_requests: settings.max_requests,
        max_tokens: settings.max_tokens,
        api_keys: api_keys(settings.api_keys_file.as_deref())?,
        cors_origins: settings.cors_origins.iter().map(origin).collect::<Result<_, _>>()?,
        strict_params: settings.strict_params,
        log_prompts: settings.log_prompts,
        reports: Some(report::runs(config)?),
        report_retries: config.report.retries,
        grace: Duration::from_secs(settings.grace_seconds.into()),
        ..ServerConfig::default()
    })
}

/// The file's and the environment's. A file without any would let everybody in, which nobody who
/// names one wants.
fn api_keys(file: Option<&Path>) -> anyhow::Result<ApiKeys> {
    let given = std::env::var(ENV_API_KEYS).unwrap_or_default();
    let mut keys = ApiKeys::parse(&given);
    if keys.is_empty() && !given.is_empty() {
        bail!("{ENV_API_KEYS} is set and has no key; give it one, or unset it");
    }
    if let Some(file) = file {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read the API keys of {}", file.display()))?;
        let of_file = ApiKeys::parse(&text);
        if of_file.is_empty() {
            bail!("{} has no API key; write one a line, or leave it out", file.display());
        }
        keys = keys.and(of_file);
    }
    Ok(keys)
}

/// Resolves at the first signal to stop; a second one does not wait for running requests.
async fn stop_signal() {
    signalled().await;
    tokio::spawn(async {
        signalled().await;
        std::process::exit(130);
    });
}

/// What asks the process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Interrupt,
    Terminate,
}

/// Resolves at Ctrl-C or, where there is one, a termination signal.
pub(super) async fn signalled() -> Signal {
    let interrupt = async {
        if signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminate = async {
        match signal::unix::signal(signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        () = interrupt => Signal::Interrupt,
        () = terminate => Signal::Terminate,
    }
}
