//! `rushlight play`: a page on this machine where the ideas of the guide can be touched, on the library itself.
//!
//! One file an exhibit; what the page shows is computed here and drawn there. [`guard`] says who may ask, and how much.

mod assets;
mod attention;
mod choose;
mod fold;
mod gates;
mod graph;
mod guard;
mod learner;
mod runs;
mod train;
mod views;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, Router, get, post};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use crate::Outcome;

#[derive(clap::Args)]
pub struct Args {
    /// The port of 127.0.0.1 to listen on; 0 for any that is free
    #[arg(long, value_name = "N", default_value_t = 7878)]
    port: u16,
    /// A run folder to look into; may be given many times
    #[arg(long, value_name = "DIR")]
    run: Vec<PathBuf>,
}

/// What all requests share.
struct Server {
    /// Computations at a time: more would only take each other's cores.
    work: Arc<Semaphore>,
    /// Streams of events at a time.
    streams: Arc<Semaphore>,
    trainings: train::Trainings,
    /// The folders that may be read, by their place in this list; nothing else on the disk can be named.
    runs: Vec<Arc<runs::Folder>>,
}

const WORKERS: usize = 2;
const STREAMS: usize = 64;

/// A request that is refused, with a sentence.
struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(serde_json::json!({ "error": self.1 }))).into_response()
    }
}

impl From<JsonRejection> for Refused {
    fn from(e: JsonRejection) -> Refused {
        Refused(e.status(), e.body_text())
    }
}

/// A computation that failed did so by what it was given.
impl From<Box<dyn std::error::Error + Send + Sync>> for Refused {
    fn from(e: Box<dyn std::error::Error + Send + Sync>) -> Refused {
        Refused(StatusCode::UNPROCESSABLE_ENTITY, e.to_string())
    }
}

/// Runs `f` where it may take its time.
async fn compute<R: Serialize + Send + 'static>(
    server: &Server,
    f: impl FnOnce() -> Outcome<R> + Send + 'static,
) -> Result<Response, Refused> {
    let stopped = |_| Refused(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping".into());
    let permit = server.work.clone().acquire_owned().await.map_err(stopped)?;
    let done = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        f().and_then(|r| Ok(serde_json::to_string(&r)?))
    });
    let failed = |_| Refused(StatusCode::INTERNAL_SERVER_ERROR, "the computation broke off".into());
    let text = done.await.map_err(failed)??;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

/// An endpoint that computes something of what is posted to it.
fn computed<T, R>(f: fn(T) -> Outcome<R>) -> MethodRouter<Arc<Server>>
where
    T: DeserializeOwned + Send + 'static,
    R: Serialize + Send + 'static,
{
    post(move |State(server): State<Arc<Server>>, body: Result<Json<T>, JsonRejection>| async move {
        let Json(input) = body?;
        compute(&server, move || f(input)).await
    })
}

/// What the page asks first.
async fn about(State(server): State<Arc<Server>>) -> Response {
    let runs: Vec<&str> = server.runs.iter().map(|r| r.name.as_str()).collect();
    Json(serde_json::json!({ "version": env!("CARGO_PKG_VERSION"), "runs": runs })).into_response()
}

fn router(server: Arc<Server>, port: u16) -> Router {
    let api = Router::new()
        .route("/api/about", get(about))
        .route("/api/fold", computed(fold::answer))
        .route("/api/choose", computed(choose::answer))
        .route("/api/gates", computed(gates::answer))
        .route("/api/views", computed(views::answer))
        .route("/api/graph", computed(graph::answer))
        .merge(train::routes())
        .merge(runs::routes())
        .merge(attention::routes())
        .with_state(server);
    guard::around(api.merge(assets::routes()), port)
}

pub fn main(args: &Args) -> Outcome {
    for run in &args.run {
        if !run.is_dir() {
            return Err(format!("--run {}: no such folder", run.display()).into());
        }
    }
    // The networks here are small: a second thread would cost each more than it gives.
    rushlight::set_num_threads(1)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (port, runs) = (args.port, args.run.iter().map(|r| Arc::new(runs::Folder::new(r))).collect());
    let result = runtime.block_on(async move {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = tokio::net::TcpListener::bind(address)
            .await
            .map_err(|e| format!("{address}: {e}; choose another with --port"))?;
        let port = listener.local_addr()?.port();
        let server = Server {
            work: Arc::new(Semaphore::new(WORKERS)),
            streams: Arc::new(Semaphore::new(STREAMS)),
            trainings: train::Trainings::default(),
            runs,
        };
        say!("the playground is at http://127.0.0.1:{port}/ (Ctrl-C stops it)");
        guard::serve(listener, router(Arc::new(server), port)).await;
        Ok(())
    });
    // Open streams and threads end with the program.
    runtime.shutdown_background();
    result
}
