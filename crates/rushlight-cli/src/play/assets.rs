//! The page's files and the guide, inside the program.

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{Router, get};

use super::Refused;

macro_rules! files {
    ($folder:literal, $kind:expr, [$($name:literal),* $(,)?]) => {
        [$(($name, $kind, include_str!(concat!($folder, $name)))),*]
    };
}

const SCRIPT: &str = "text/javascript; charset=utf-8";
const SCRIPTS: &[(&str, &str, &str)] = &files!(
    "assets/",
    SCRIPT,
    ["app.js", "attention.js", "kit.js", "fold.js", "choose.js", "gates.js", "images.js", "tensors.js", "train.js"]
);
const STYLES: &[(&str, &str, &str)] = &files!("assets/", "text/css; charset=utf-8", ["style.css"]);
const PLAIN: &str = "text/plain; charset=utf-8";
const GUIDE: &[(&str, &str, &str)] = &files!(
    "../../../../docs/guide/",
    PLAIN,
    [
        "01_fold_pooling.md",
        "02_gradient_through_max.md",
        "03_max_argmax_softmax.md",
        "04_sigmoid_is_softmax.md",
        "05_gates.md",
        "06_gate_between_networks.md",
        "07_softmax_gating.md",
        "08_attention.md",
        "09_translation_and_gpt.md",
    ]
);
/// What computes the exhibits, by the paths that the page links to.
const SOURCES: &[(&str, &str, &str)] = &files!(
    "../../../rushlight/src/",
    PLAIN,
    [
        "tensor/view.rs",
        "ops/pool/mod.rs",
        "ops/softmax.rs",
        "ops/extremum.rs",
        "ops/gate.rs",
        "ops/attention.rs",
        "autograd/backward.rs",
        "nn/gate.rs",
        "nn/mixture.rs",
        "optim/flow.rs",
        "shape.rs",
        "tensor/mod.rs",
        "ops/conv.rs",
    ]
);

pub fn routes() -> Router {
    Router::new()
        .route("/", get(|| async { file("text/html; charset=utf-8", include_str!("assets/index.html")) }))
        .route("/assets/{name}", get(|Path(name): Path<String>| async move { find(&[SCRIPTS, STYLES], &name) }))
        .route("/guide/{name}", get(|Path(name): Path<String>| async move { find(&[GUIDE], &name) }))
        .route("/source/{*name}", get(|Path(name): Path<String>| async move { find(&[SOURCES], &name) }))
}

fn file(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

fn find(lists: &[&[(&'static str, &'static str, &'static str)]], name: &str) -> Response {
    match lists.iter().copied().flatten().find(|(n, ..)| *n == name) {
        Some((_, kind, text)) => file(kind, text),
        None => Refused(StatusCode::NOT_FOUND, "there is nothing here".into()).into_response(),
    }
}
