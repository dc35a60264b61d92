//! Train: networks that learn point sets, each on a thread of its own, watched through server-sent events.
//!
//! What is sent is the whole state (boundary, thinned history, gradient flow), never a difference: a page that was
//! loaded again, or a slow reader, gets the newest and lacks nothing, and nothing piles up for it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{Router, get, post};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::learner::{Config, Learner};
use super::{Refused, Server};
use crate::Outcome;

/// Trainings that are kept at a time; the one that was watched least lately makes room.
const KEPT: usize = 16;
/// A frame is sent this often, and so many steps are made for it.
const FRAME: Duration = Duration::from_millis(50);
const STEPS: usize = 10;
/// A training that nobody watches rests after this long.
const UNWATCHED: Duration = Duration::from_secs(30);

#[derive(Default)]
pub struct Trainings(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    next: u64,
    all: BTreeMap<u64, Training>,
}

struct Training {
    orders: Sender<Order>,
    frames: watch::Receiver<Arc<str>>,
    /// The other end, to count who looks.
    watched: watch::Sender<Arc<str>>,
    touched: Instant,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase", tag = "do", deny_unknown_fields)]
enum Order {
    Start,
    Pause,
    Step,
    Reset,
    Rate { lr: f64 },
}

#[derive(Serialize)]
struct Frame<'a> {
    running: bool,
    error: Option<&'a str>,
    config: &'a Config,
    #[serde(flatten)]
    state: super::learner::Shown<'a>,
}

impl Trainings {
    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, config: Config) -> Outcome<u64> {
        config.check()?;
        let (orders, received) = channel();
        let (sender, frames) = watch::channel(Arc::from(""));
        let watched = sender.clone();
        let mut kept = self.kept();
        if kept.all.len() >= KEPT {
            let free = kept.all.iter().filter(|(_, t)| t.watched.receiver_count() <= 1).min_by_key(|(_, t)| t.touched);
            let oldest = *free.ok_or("too many trainings are watched; close a page")?.0;
            kept.all.remove(&oldest);
        }
        std::thread::Builder::new().name("training".into()).spawn(move || live(config, &received, &sender))?;
        kept.next += 1;
        let id = kept.next;
        kept.all.insert(id, Training { orders, frames, watched, touched: Instant::now() });
        Ok(id)
    }

    fn get<R>(&self, id: u64, f: impl FnOnce(&Training) -> R) -> Result<R, Refused> {
        let gone = || Refused(StatusCode::NOT_FOUND, format!("no training {id}; begin one"));
        let mut kept = self.kept();
        let training = kept.all.get_mut(&id).ok_or_else(gone)?;
        training.touched = Instant::now();
        Ok(f(training))
    }
}

/// The life of a training's thread: it ends with the last order's sender.
fn live(config: Config, orders: &Receiver<Order>, frames: &watch::Sender<Arc<str>>) {
    let (mut running, mut error): (bool, Option<String>) = (false, None);
    let mut learner = match Learner::new(&config) {
        Ok(learner) => learner,
        Err(e) => return send(frames, &serde_json::json!({ "error": e.to_string(), "running": false })),
    };
    let mut config = config;
    let mut watched = Instant::now();
    loop {
        match learner.shown() {
            Ok(state) => send(frames, &Frame { running, error: error.as_deref(), config: &config, state }),
            Err(e) => send(frames, &serde_json::json!({ "error": e.to_string(), "running": false })),
        }
        if frames.receiver_count() > 1 {
            watched = Instant::now();
        }
        running &= watched.elapsed() < UNWATCHED;
        let order = match running {
            true => match orders.try_recv() {
                Ok(order) => Some(order),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => return,
            },
            false => match orders.recv() {
                Ok(order) => Some(order),
                Err(_) => return,
            },
        };
        let steps = match order {
            Some(Order::Start) => {
                (running, watched) = (true, Instant::now());
                STEPS
            }
            Some(Order::Pause) => {
                running = false;
                0
            }
            Some(Order::Step) => {
                running = false;
                1
            }
            Some(Order::Reset) => {
                (running, error) = (false, None);
                match Learner::new(&config) {
                    Ok(new) => learner = new,
                    Err(e) => error = Some(e.to_string()),
                }
                0
            }
            Some(Order::Rate { lr }) => {
                config.lr = lr;
                learner.set_lr(lr);
                0
            }
            None => STEPS,
        };
        let begin = Instant::now();
        for _ in 0..steps {
            if let Err(e) = learner.step() {
                (running, error) = (false, Some(e.to_string()));
                break;
            }
            if begin.elapsed() > FRAME {
                break;
            }
        }
        if running {
            std::thread::sleep(FRAME.saturating_sub(begin.elapsed()));
        }
    }
}

fn send(frames: &watch::Sender<Arc<str>>, frame: &impl Serialize) {
    if let Ok(text) = serde_json::to_string(frame) {
        frames.send_replace(Arc::from(text));
    }
}

pub fn routes() -> Router<Arc<Server>> {
    Router::new()
        .route("/api/train", post(begin))
        .route("/api/train/{id}", post(order).get(now))
        .route("/api/train/{id}/events", get(events))
}

async fn begin(
    State(server): State<Arc<Server>>,
    body: Result<Json<Config>, JsonRejection>,
) -> Result<Response, Refused> {
    let Json(config) = body?;
    let id = server.trainings.begin(config)?;
    Ok(Json(serde_json::json!({ "id": id })).into_response())
}

async fn order(
    State(server): State<Arc<Server>>,
    Path(id): Path<u64>,
    body: Result<Json<Order>, JsonRejection>,
) -> Result<Response, Refused> {
    let Json(order) = body?;
    if let Order::Rate { lr } = order
        && !(0.0..=10.0).contains(&lr)
    {
        return Err(Refused(StatusCode::UNPROCESSABLE_ENTITY, format!("lr {lr}: expected 0 to 10")));
    }
    let sent = server.trainings.get(id, |t| t.orders.send(order))?;
    sent.map_err(|_| Refused(StatusCode::GONE, "that training has ended".into()))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The newest frame.
async fn now(State(server): State<Arc<Server>>, Path(id): Path<u64>) -> Result<Response, Refused> {
    let text = server.trainings.get(id, |t| t.frames.borrow().to_string())?;
    Ok(([(axum::http::header::CONTENT_TYPE, "application/json")], text).into_response())
}

async fn events(State(server): State<Arc<Server>>, Path(id): Path<u64>) -> Result<Response, Refused> {
    let mut frames = server.trainings.get(id, |t| t.frames.clone())?;
    let full = |_| Refused(StatusCode::SERVICE_UNAVAILABLE, "too many pages watch at once".into());
    let permit = server.streams.clone().try_acquire_owned().map_err(full)?;
    frames.mark_changed();
    let stream = stream::unfold((frames, permit), |(mut frames, permit)| async move {
        frames.changed().await.ok()?;
        let text = frames.borrow_and_update().to_string();
        Some((Ok::<_, Infallible>(Event::default().data(text)), (frames, permit)))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()).into_response())
}
