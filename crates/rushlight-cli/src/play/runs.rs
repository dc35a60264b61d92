//! Images: what a run of `train images` has learned so far, and how it came there, read from its folder as it trains.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{Router, post};
use rushlight::nn::{Layer, Module};
use rushlight::{Tensor, no_grad};
use rushlight_models::LeNet;
use serde::{Deserialize, Serialize};

use super::attention::Language;
use super::{Refused, Server, compute};
use crate::Outcome;
use crate::classifier::Measured;
use crate::data::{self, Labelled};
use crate::run::{Metric, Run, Task};

/// A folder that was named to the program; the page knows its place and its last name.
pub struct Folder {
    path: PathBuf,
    pub name: String,
    seen: Mutex<Seen>,
}

/// What is kept of a folder between two looks.
#[derive(Default)]
struct Seen {
    set: Option<Arc<Labelled>>,
    confusion: Option<(u64, Vec<Vec<u64>>)>,
    language: Option<(u64, Arc<Language>)>,
}

impl Folder {
    pub fn new(path: &Path) -> Folder {
        // Whole, so that messages can be freed of it.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let name = path.file_name().map_or_else(|| "run".into(), |n| n.to_string_lossy().into_owned());
        Folder { path, name, seen: Mutex::default() }
    }

    /// Without a word of where the folder lies.
    fn hidden(&self, e: Box<dyn std::error::Error + Send + Sync>) -> String {
        e.to_string().replace(&*self.path.to_string_lossy(), &self.name)
    }

    /// What `f` says of the folder's language model, which is read again when it was written.
    pub fn language<R>(&self, f: impl Fn(&Language) -> Outcome<R>) -> Outcome<R> {
        let language = || -> Outcome<Arc<Language>> {
            let run = Run::open(&self.path)?;
            let stamp = stamp(&run);
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            match &seen.language {
                Some((at, language)) if *at == stamp => Ok(language.clone()),
                _ => {
                    let language = Arc::new(Language::load(run)?);
                    seen.language = Some((stamp, language.clone()));
                    Ok(language)
                }
            }
        };
        f(&*language().map_err(|e| self.hidden(e))?)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    run: usize,
    /// Which of the test pictures.
    picture: usize,
}

#[derive(Serialize)]
struct Answer {
    task: &'static str,
    finished: bool,
    /// The last ones, of which the first has this number.
    epochs: Vec<Epoch>,
    first_epoch: usize,
    images: Option<Images>,
    /// Why there are none.
    without: Option<String>,
}

#[derive(Serialize)]
struct Epoch {
    train_loss: f64,
    test_loss: f64,
    train_accuracy: f64,
    test_accuracy: f64,
}

#[derive(Serialize)]
struct Images {
    classes: Vec<String>,
    pictures: usize,
    label: i64,
    picture: Map,
    filters: Vec<Map>,
    maps: Vec<Map>,
    pooled: Vec<Map>,
    probabilities: Vec<f64>,
    /// `[true class][predicted class]` of the first test pictures, and how many they are.
    confusion: Vec<Vec<u64>>,
    measured: usize,
}

/// Numbers side by side, and their range.
#[derive(Serialize)]
struct Map {
    height: usize,
    width: usize,
    pixels: Vec<f32>,
}

/// Channels that are shown, pictures that are measured, and epochs that are drawn.
const SHOWN: usize = 8;
const MEASURED: usize = 1000;
const EPOCHS: usize = 1000;

pub fn routes() -> Router<Arc<Server>> {
    Router::new().route("/api/run", post(look))
}

async fn look(State(server): State<Arc<Server>>, body: Result<Json<Ask>, JsonRejection>) -> Result<Response, Refused> {
    let Json(ask) = body?;
    let Some(folder) = server.runs.get(ask.run).cloned() else {
        return Err(Refused(StatusCode::NOT_FOUND, format!("no run {}; {} were named", ask.run, server.runs.len())));
    };
    compute(&server, move || answer(&folder, ask.picture)).await
}

fn answer(folder: &Folder, picture: usize) -> Outcome<Answer> {
    let run = Run::open(&folder.path).map_err(|e| folder.hidden(e))?;
    let mut epochs: Vec<Epoch> = vec![];
    for metric in run.read_metrics().unwrap_or_default() {
        if let Metric::Epoch { train_loss, test_loss, train_accuracy, test_accuracy, .. } = metric {
            epochs.push(Epoch { train_loss, test_loss, train_accuracy, test_accuracy });
        }
    }
    let left_out = epochs.len().saturating_sub(EPOCHS);
    epochs.drain(..left_out);
    let (images, without) = match images(folder, &run, picture) {
        Ok(images) => (Some(images), None),
        Err(e) => (None, Some(folder.hidden(e))),
    };
    let finished = run.path("model.safetensors").exists();
    Ok(Answer { task: run.config.task.name(), finished, epochs, first_epoch: left_out + 1, images, without })
}

fn images(folder: &Folder, run: &Run, picture: usize) -> Outcome<Images> {
    let Task::Images { data, height, width, dropout } = &run.config.task else {
        return Err(format!("a run of train {}: pictures are of runs of train images", run.config.task.name()).into());
    };
    let mut seen = folder.seen.lock().unwrap_or_else(PoisonError::into_inner);
    let set = match &seen.set {
        Some(set) => set.clone(),
        None => {
            // What a run names is a stranger's word: nothing is read but the bundled pictures, or what lies in the folder.
            let real = data.canonicalize().unwrap_or_default();
            let ours = real.starts_with(&folder.path) && holds_no_links(&real);
            if !ours && data::bundled("fashion-mnist").ok().as_deref() != Some(&real) {
                return Err("its pictures lie outside of the folder, and only bundled ones are read from there".into());
            }
            let set = Arc::new(data::images_of(run, None).map_err(|_| "its pictures cannot be read")?);
            seen.set = Some(set.clone());
            set
        }
    };
    let mut model = LeNet::new(*height, *width, run.config.classes.len(), *dropout)?;
    run.load_model(&mut model)?;
    model.eval();
    let count = set.test_y.numel();
    if picture >= count {
        return Err(format!("picture {picture}: there are {count}").into());
    }
    let measured = MEASURED.min(count);
    let stamp = stamp(run);
    let confusion = match &seen.confusion {
        Some((at, confusion)) if *at == stamp => confusion.clone(),
        _ => {
            let (x, y) = (set.test_x.narrow(0, 0, measured)?, set.test_y.narrow(0, 0, measured)?);
            let found = Measured::of(&mut model, &x, &y, run.config.classes.len())?.confusion;
            seen.confusion = Some((stamp, found.clone()));
            found
        }
    };
    let image = set.test_x.narrow(0, picture, 1)?;
    let (maps, pooled) = no_grad(|| model.first_maps(&image))?;
    let filters = model.state_dict().get("conv1.weight").cloned().ok_or("no conv1.weight")?;
    Ok(Images {
        classes: run.config.classes.clone(),
        pictures: count,
        label: set.test_y.select(0, picture as i64)?.item()?,
        picture: planes(&image)?.remove(0),
        filters: planes(&filters)?,
        maps: planes(&maps)?,
        pooled: planes(&pooled)?,
        probabilities: no_grad(|| model.forward(&image)?.exp()?.to_f64_vec())?,
        confusion,
        measured,
    })
}

/// Whether no file of a folder leads elsewhere.
fn holds_no_links(folder: &Path) -> bool {
    let link = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.and_then(|e| e.file_type()).map_or(true, |kind| kind.is_symlink())
    };
    std::fs::read_dir(folder).is_ok_and(|mut files| !files.any(link))
}

/// When the network was written last, in milliseconds.
fn stamp(run: &Run) -> u64 {
    let of = |name| std::fs::metadata(run.path(name)).and_then(|m| m.modified()).ok();
    let last = of("model.safetensors").or_else(|| of("checkpoint.safetensors"));
    last.and_then(|t| t.duration_since(UNIX_EPOCH).ok()).map_or(0, |d| d.as_millis() as u64)
}

/// The first planes of `[.., h, w]`.
fn planes(x: &Tensor) -> Outcome<Vec<Map>> {
    let &[.., height, width] = x.dims() else { return Ok(vec![]) };
    let pixels = x.to_vec::<f32>()?;
    let plane = |p: &[f32]| Map { height, width, pixels: p.to_vec() };
    Ok(pixels.chunks_exact((height * width).max(1)).take(SHOWN).map(plane).collect())
}
