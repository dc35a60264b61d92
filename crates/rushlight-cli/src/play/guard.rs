//! Who may ask, and how much: this machine's own pages, small bodies, in time, so many at once.
//!
//! A page of another site can send requests to 127.0.0.1 from the reader's browser. Such a request names its site in
//! `Origin`, or, where a foreign name was pointed at this machine, in `Host`; both are refused.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::Refused;

/// Bytes of a body.
const BODY: usize = 64 << 10;
/// Connections at a time.
const CONNECTIONS: usize = 256;
/// How long a head may take to come, and a connection to stay idle.
const HEAD: Duration = Duration::from_secs(10);
/// How long until an answer begins, its body read.
const ANSWER: Duration = Duration::from_secs(20);

const POLICY: &str = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// The routes behind all checks.
pub fn around(routes: Router, port: u16) -> Router {
    routes
        .fallback(|| async { Refused(StatusCode::NOT_FOUND, "there is nothing here".into()) })
        .layer(DefaultBodyLimit::max(BODY))
        .layer(from_fn(in_time))
        .layer(from_fn(move |request: Request, next: Next| async move {
            let mut response = match foreign(request.headers(), port) {
                Some(what) => Refused(StatusCode::FORBIDDEN, what).into_response(),
                None => next.run(request).await,
            };
            let headers = response.headers_mut();
            for (name, value) in [
                (header::CONTENT_SECURITY_POLICY, POLICY),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
                (header::REFERRER_POLICY, "no-referrer"),
                (header::CACHE_CONTROL, "no-store"),
            ] {
                headers.insert(name, header::HeaderValue::from_static(value));
            }
            response
        }))
}

async fn in_time(request: Request, next: Next) -> Response {
    let late = || Refused(StatusCode::REQUEST_TIMEOUT, "this took too long; ask again".into()).into_response();
    tokio::time::timeout(ANSWER, next.run(request)).await.unwrap_or_else(|_| late())
}

/// Why a request is not one of a page of ours.
fn foreign(headers: &HeaderMap, port: u16) -> Option<String> {
    let ours = [format!("127.0.0.1:{port}"), format!("localhost:{port}")];
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|h| h.to_str().ok()).unwrap_or("");
    if !ours.iter().any(|o| o.eq_ignore_ascii_case(host)) || hosts.next().is_some() {
        return Some(format!("the host {host:?} is not this server"));
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or("");
        if !origin.strip_prefix("http://").is_some_and(|o| ours.iter().any(|ours| ours == o)) {
            return Some(format!("a page of {origin:?} may not ask here"));
        }
    }
    // Browsers say so of all else that another site makes them load.
    match headers.get("sec-fetch-site").and_then(|v| v.to_str().ok()) {
        Some("cross-site" | "same-site") if headers.get("sec-fetch-mode").is_none_or(|m| m != "navigate") => {
            Some("another site may not ask here".into())
        }
        _ => None,
    }
}

/// Answers until Ctrl-C.
pub async fn serve(listener: TcpListener, app: Router) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = tokio::signal::ctrl_c() => return,
        };
        let Ok((mut stream, _)) = accepted else {
            // Out of files: wait for some to be given back.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(permit) = connections.clone().try_acquire_owned() else {
            tokio::spawn(async move {
                let full = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(full)).await;
            });
            continue;
        };
        let app = app.clone();
        tokio::spawn(async move {
            let _permit = permit;
            // A client that vanished or speaks no HTTP is its own loss.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .max_buf_size(64 << 10)
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app))
                .await;
        });
    }
}
