//! Attention: what each head looks at, and the next token with the alternatives that were weighed.
//!
//! A request asks for one token: the page streams a text by asking again. So nobody holds a place among the computations
//! for longer than a token takes, and who goes away has stopped it.

use std::sync::{Arc, LazyLock};

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{Router, post};
use rushlight::nn::Module;
use rushlight::random::Generator;
use rushlight::{Tensor, f16, no_grad};
use rushlight_models::text::{Sampling, Tokenizer};
use rushlight_models::{Gpt, GptConfig, Translator};
use serde::{Deserialize, Serialize};

use super::runs::Folder;
use super::{Refused, Server, compute};
use crate::picture::visible;
use crate::run::{Run, Task};
use crate::{Outcome, gpt, translation};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// A run that was named to the program; none for the model that comes with it.
    run: Option<usize>,
    /// The prompt, or what is to be translated.
    text: String,
    /// The tokens that were written so far.
    written: Vec<i64>,
    layer: usize,
    head: usize,
    temperature: f64,
    seed: u64,
}

#[derive(Serialize)]
pub struct Answer {
    task: &'static str,
    layers: usize,
    heads: usize,
    /// What looks (a row each), and what is looked at.
    rows: Vec<String>,
    columns: Vec<String>,
    /// Of the layer and head asked for, row by row.
    map: Vec<f32>,
    /// Of the last row, for each layer and head.
    last: Vec<Vec<Vec<f32>>>,
    /// The likeliest tokens to come next, and which was drawn; none at the end.
    weighed: Vec<Weighed>,
    next: Option<Weighed>,
}

#[derive(Clone, Serialize)]
struct Weighed {
    id: i64,
    piece: String,
    probability: f64,
}

const TEXT: usize = 2000;
const WRITTEN: usize = 512;
/// Tokens that a map shows, and alternatives.
const SHOWN: usize = 64;
const ALTERNATIVES: usize = 8;

/// A model of text, ready to be asked.
pub enum Language {
    Gpt(Gpt, Tokenizer),
    Translator(Translator, Tokenizer),
}

impl Language {
    pub fn load(run: Run) -> Outcome<Language> {
        let tokenizer = |run: Run| run.tokenizer.ok_or("a run without tokens");
        match &run.config.task {
            Task::Gpt { .. } => Ok(Language::Gpt(gpt::load(&run)?, tokenizer(run)?)),
            Task::Translate { .. } => Ok(Language::Translator(translation::load(&run)?, tokenizer(run)?)),
            other => Err(format!("a run of {}: attention is shown of train gpt and translate", other.command()).into()),
        }
    }
}

pub fn routes() -> Router<Arc<Server>> {
    Router::new().route("/api/attention", post(look))
}

async fn look(State(server): State<Arc<Server>>, body: Result<Json<Ask>, JsonRejection>) -> Result<Response, Refused> {
    let Json(ask) = body?;
    let folder = match ask.run {
        None => None,
        Some(run) => match server.runs.get(run) {
            Some(folder) => Some(folder.clone()),
            None => {
                return Err(Refused(StatusCode::NOT_FOUND, format!("no run {run}; {} were named", server.runs.len())));
            }
        },
    };
    compute(&server, move || answer(folder.as_deref(), &ask)).await
}

fn answer(folder: Option<&Folder>, ask: &Ask) -> Outcome<Answer> {
    if ask.text.len() > TEXT || ask.written.len() > WRITTEN {
        return Err(format!("expected a text of at most {TEXT} bytes and at most {WRITTEN} tokens after it").into());
    }
    match folder {
        None => of(SHIPPED.as_ref().map_err(|e| e.clone())?, ask),
        Some(folder) => folder.language(|language| of(language, ask)),
    }
}

fn of(language: &Language, ask: &Ask) -> Outcome<Answer> {
    let row = |ids: &[i64]| Tensor::from_slice(ids, [1, ids.len()]);
    match language {
        Language::Gpt(model, tokenizer) => {
            let mut said = tokenizer.encode(&ask.text)?;
            said.extend(&ask.written);
            if said.is_empty() {
                return Err("the text is empty".into());
            }
            let seen = &said[said.len().saturating_sub(SHOWN.min(model.wpe.weight.dims()[0]))..];
            let (logits, weights) = no_grad(|| model.forward_with_weights(&row(seen)?))?;
            let names = pieces(tokenizer, seen)?;
            found("gpt", (names.clone(), names), &logits, &weights, tokenizer, None, ask)
        }
        Language::Translator(model, tokenizer) => {
            let source = translation::tokens(tokenizer, [&*ask.text].into_iter())?.concat();
            let before = [&[Translator::BOS][..], &ask.written].concat();
            let (logits, weights) =
                no_grad(|| model.decode_with_weights(&row(&before)?, &model.encode(&row(&source)?)?))?;
            // A row is named by what was written by looking so; the last is what comes next.
            let mut rows = pieces(tokenizer, &ask.written)?;
            rows.push("…".into());
            found(
                "translate",
                (rows, pieces(tokenizer, &source)?),
                &logits,
                &weights,
                tokenizer,
                Some(Translator::EOS),
                ask,
            )
        }
    }
}

fn pieces(tokenizer: &Tokenizer, ids: &[i64]) -> Outcome<Vec<String>> {
    let piece = |&id: &i64| match tokenizer.decode(&[id])? {
        special if special.is_empty() => Ok(tokenizer.token(id).unwrap_or_default()),
        token => Ok(token),
    };
    ids.iter().map(piece).collect()
}

/// What a forward pass says, `[1, T, vocab]` and `[1, heads, T, S]` of each layer.
fn found(
    task: &'static str,
    (rows, columns): (Vec<String>, Vec<String>),
    logits: &Tensor,
    weights: &[Tensor],
    tokenizer: &Tokenizer,
    end: Option<i64>,
    ask: &Ask,
) -> Outcome<Answer> {
    let (layers, heads) = (weights.len(), weights.first().map_or(0, |w| w.dims()[1]));
    if ask.layer >= layers || ask.head >= heads {
        return Err(
            format!("layer {}, head {}: there are {layers} layers of {heads} heads", ask.layer, ask.head).into()
        );
    }
    let map = weights[ask.layer].select(0, 0)?.select(0, ask.head as i64)?.to_vec::<f32>()?;
    let last = |w: &Tensor| -> Outcome<Vec<Vec<f32>>> {
        let last = w.select(0, 0)?.select(1, -1)?; // [heads, S]
        (0..heads).map(|head| Ok(last.select(0, head as i64)?.to_vec::<f32>()?)).collect()
    };
    let last = weights.iter().map(last).collect::<Outcome<_>>()?;

    let logits = logits.select(0, 0)?.select(0, -1)?.to_vec::<f32>()?;
    let sampling = Sampling { temperature: ask.temperature, ..Sampling::default() };
    let place = ask.written.len() as u64;
    let next =
        sampling.choose(&logits, &ask.written, &mut Generator::new(ask.seed ^ place.wrapping_mul(0x9e37_79b9)))?;
    // Before the temperature: what the model itself thinks.
    let p = Sampling::default().probabilities(&logits, &[])?;
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[b].total_cmp(&p[a]));
    let weighed = |id: i64| -> Outcome<Weighed> {
        Ok(Weighed {
            id,
            piece: pieces(tokenizer, &[id])?.concat(),
            probability: p.get(id as usize).copied().unwrap_or(0.0),
        })
    };
    let visible = |names: Vec<String>| names.iter().map(|name| visible(name)).collect();
    Ok(Answer {
        task,
        layers,
        heads,
        rows: visible(rows),
        columns: visible(columns),
        map,
        last,
        next: (end != Some(next)).then(|| weighed(next)).transpose()?,
        weighed: order.into_iter().take(ALTERNATIVES).map(|id| weighed(id as i64)).collect::<Outcome<_>>()?,
    })
}

/// The model that comes with the program; how it was made is in scripts/tiny_gpt.py.
static SHIPPED: LazyLock<Result<Language, String>> = LazyLock::new(|| shipped().map_err(|e| e.to_string()));

fn shipped() -> Outcome<Language> {
    #[derive(Deserialize)]
    struct Head {
        config: GptConfig,
        characters: String,
    }
    let file: &[u8] = include_bytes!("assets/tiny_gpt.bin");
    let end = file.iter().position(|&b| b == b'\n').ok_or("no head")?;
    let head: Head = serde_json::from_slice(&file[..end])?;
    let tokenizer = Tokenizer::train_characters([&head.characters], &[])?;
    let mut model = Gpt::new(&head.config)?;
    let mut state = model.state_dict();
    let mut numbers = file[end + 1..].as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32());
    for tensor in state.values_mut() {
        let values: Vec<f32> = numbers.by_ref().take(tensor.numel()).collect();
        *tensor = Tensor::from_vec(values, tensor.dims())?;
    }
    model.load_state_dict(&state)?;
    model.eval();
    Ok(Language::Gpt(model, tokenizer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_model_knows_some_english() {
        let Language::Gpt(model, tokenizer) = shipped().unwrap() else { panic!() };
        let ids = tokenizer.encode("What is the matter with thee, and with the king of this c").unwrap();
        let tokens = Tensor::from_slice(&ids, [1, ids.len()]).unwrap();
        let logits = model.forward(&tokens).unwrap();
        let [input, target] =
            [logits.narrow(1, 0, ids.len() - 1), tokens.narrow(1, 1, ids.len() - 1)].map(Result::unwrap);
        let loss =
            rushlight::loss::cross_entropy(&input.flatten(0, 1).unwrap(), &target.flatten(0, 1).unwrap()).unwrap();
        // Of 81 characters; one that knows nothing is at ln 81 = 4.4.
        assert!(loss.item::<f64>().unwrap() < 2.2, "{loss}");
    }
}
