//! `config.json` of a run folder: what was trained, and how. It may come from a stranger, so all is checked.
//!
//! This file needs nothing else of the command line: the fuzz target `run` reads with it as well.

use std::path::{Path, PathBuf};

use rushlight::Error;
use rushlight::data::points::PointSet;
use rushlight::data::text::read_text;
use rushlight::io::from_json;
use rushlight_models::{GptConfig, TranslatorConfig};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a run trains, and how: `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    pub version: String,
    #[serde(with = "named")]
    pub task: Task,
    pub epochs: usize,
    pub batch: usize,
    pub lr: f64,
    pub seed: u64,
    pub classes: Vec<String>,
}

/// What is learned from what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    Images {
        data: PathBuf,
        height: usize,
        width: usize,
        dropout: f64,
    },
    Points {
        set: String,
        count: usize,
        widths: Vec<usize>,
    },
    Gpt {
        data: PathBuf,
        config: GptConfig,
        steps: usize,
        /// Whether products round to bf16 where the processor multiplies it.
        #[serde(default)]
        bf16: bool,
    },
    Finetune {
        /// The model that it begins with, and a checksum of its file.
        model: PathBuf,
        sum: String,
        data: PathBuf,
        valid: Option<PathBuf>,
        /// Adapters, or all weights.
        lora: Option<LoraSizes>,
        /// Tokens that a sample has at most.
        length: usize,
        steps: usize,
        /// Steps between two measurements.
        every: usize,
        bf16: bool,
    },
    Translate {
        data: PathBuf,
        valid: Option<PathBuf>,
        test: Option<PathBuf>,
        config: TranslatorConfig,
    },
    Sentiment {
        data: PathBuf,
        test: Option<PathBuf>,
        model: TextModel,
        sizes: TextSizes,
    },
}

/// The sizes of low-rank adapters, and which matrices have them: those whose names end so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoraSizes {
    pub rank: usize,
    pub alpha: f64,
    pub targets: Vec<String>,
}

/// How a text is classified.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextModel {
    /// Convolutions over 3, 4 and 5 words, the largest over time
    Cnn,
    /// Attention of the words to each other
    Attention,
}

/// The sizes of a text classifier.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextSizes {
    pub vocab: usize,
    /// Tokens of a text that are read.
    pub length: usize,
    pub width: usize,
    pub dropout: f64,
}

/// A task in JSON: its name is one of its settings. Serde can write that too (`tag`), but what it then says of a wrong
/// setting does not tell which.
mod named {
    use serde::de::{Deserializer, Error as _};
    use serde::ser::{Error as _, SerializeMap, Serializer};

    use super::*;

    const NAME: &str = "task";

    pub fn serialize<S: Serializer>(task: &Task, to: S) -> Result<S::Ok, S::Error> {
        let mut out = to.serialize_map(None)?;
        if let Value::Object(task) = serde_json::to_value(task).map_err(S::Error::custom)? {
            for (name, settings) in task {
                out.serialize_entry(NAME, &name)?;
                for (key, value) in settings.as_object().into_iter().flatten() {
                    out.serialize_entry(key, value)?;
                }
            }
        }
        out.end()
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Task, D::Error> {
        let mut settings = Map::deserialize(from)?;
        let name = settings.remove(NAME).ok_or_else(|| D::Error::missing_field(NAME))?;
        let name = name.as_str().ok_or_else(|| D::Error::custom(format!("{NAME}: expected a name, not {name}")))?;
        let task = Value::from_iter([(name, Value::Object(settings))]);
        serde_path_to_error::deserialize(task).map_err(|e| {
            let message = e.to_string();
            let inside = [".", ": "].iter().find_map(|mark| message.strip_prefix(&format!("{name}{mark}")));
            D::Error::custom(inside.unwrap_or(&message))
        })
    }
}

impl Task {
    /// As `rushlight train` knows it.
    pub fn name(&self) -> &'static str {
        match self {
            Task::Images { .. } => "images",
            Task::Points { .. } => "points",
            Task::Gpt { .. } => "gpt",
            Task::Sentiment { .. } => "sentiment",
            Task::Translate { .. } => "translate",
            Task::Finetune { .. } => "finetune",
        }
    }

    /// The command that trains it.
    pub fn command(&self) -> String {
        match self {
            Task::Finetune { .. } => "finetune".to_string(),
            other => format!("train {}", other.name()),
        }
    }

    /// The file of what was learnt.
    pub fn model_file(&self) -> &'static str {
        match self {
            Task::Finetune { lora: Some(_), .. } => "adapter.safetensors",
            _ => "model.safetensors",
        }
    }

    /// The tokens it knows, where it is of text.
    pub fn vocab(&self) -> Option<usize> {
        match self {
            Task::Gpt { config, .. } => Some(config.vocab_size),
            Task::Sentiment { sizes, .. } => Some(sizes.vocab),
            Task::Translate { config, .. } => Some(config.vocab_size),
            // The tokenizer of a model that is tuned stays with that.
            Task::Images { .. } | Task::Points { .. } | Task::Finetune { .. } => None,
        }
    }
}

impl Config {
    /// A run's `config.json`. Errors: what it is not, with the file.
    pub fn read(path: &Path) -> Result<Config, String> {
        let name = path.display();
        let folder = path.parent().unwrap_or(path).display();
        let text = read_text(path).map_err(|e| match e {
            Error::Io { .. } => format!("{e}; is {folder} a run folder?"),
            e => e.to_string(),
        })?;
        let config: Config = from_json(text).map_err(|e| format!("{name}: {e}"))?;
        config.check(&format!("{name}: "))?;
        Ok(config)
    }

    /// Bytes that the matrices of the network take, or fewer.
    pub fn least_bytes(&self) -> u64 {
        // As floats: no size is too large to compare.
        let product = |sizes: &[usize]| sizes.iter().map(|&n| n as f64).product::<f64>();
        let classes = self.classes.len();
        let numbers = match &self.task {
            Task::Images { height, width, .. } => product(&[64, height / 4, width / 4, 128]) + product(&[128, classes]),
            Task::Points { widths, .. } => widths.windows(2).map(product).sum(),
            Task::Gpt { config: c, .. } => {
                product(&[c.vocab_size, c.n_embd])
                    + product(&[c.block_size, c.n_embd])
                    + product(&[12, c.n_layer, c.n_embd, c.n_embd])
            }
            Task::Translate { config: c, .. } => {
                let (attention, network) = (product(&[4, c.width, c.width]), product(&[2, c.width, c.hidden]));
                product(&[c.vocab_size, c.width])
                    + c.encoder_layers as f64 * (attention + network)
                    + c.decoder_layers as f64 * (2.0 * attention + network)
            }
            Task::Sentiment { sizes, .. } => product(&[sizes.vocab, sizes.width]),
            // It is as large as the model that was named.
            Task::Finetune { .. } => 0.0,
        };
        (4.0 * numbers) as u64
    }

    /// Refuses what cannot be trained. `prefix` leads to the name: `--` on the command line, else the file.
    pub fn check(&self, prefix: &str) -> Result<(), String> {
        let within = |name: &str, value: usize, least: usize, most: usize| match value {
            v if v < least => Err(format!("{prefix}{name} {v}: expected {least} or more")),
            v if v > most => Err(format!("{prefix}{name} {v}: expected at most {most}")),
            _ => Ok(()),
        };
        within("epochs", self.epochs, 1, usize::MAX)?;
        within("batch", self.batch, 1, usize::MAX)?;
        if !self.lr.is_finite() || self.lr < 0.0 {
            return Err(format!("{prefix}lr {}: expected a finite rate of 0 or more", self.lr));
        }
        match &self.task {
            Task::Images { height, width, .. } if *height.max(width) > 4096 => {
                let file = prefix.trim_start_matches('-');
                return Err(format!("{file}images of {height} x {width}: expected at most 4096 x 4096"));
            }
            Task::Images { .. } => {}
            Task::Gpt { config: c, steps, .. } => {
                within("steps", *steps, 1, usize::MAX)?;
                within("vocab_size", c.vocab_size, 1, 1 << 20)?;
                within("block_size", c.block_size, 1, 1 << 20)?;
                within("n_layer", c.n_layer, 1, 1 << 10)?;
                within("n_embd", c.n_embd, 1, 1 << 15)?;
            }
            Task::Finetune { lora, length, steps, every, .. } => {
                within("steps", *steps, 1, usize::MAX)?;
                within("every", *every, 1, usize::MAX)?;
                within("length", *length, 1, 1 << 20)?;
                if let Some(lora) = lora {
                    within("lora-rank", lora.rank, 1, 1 << 14)?;
                    if !lora.alpha.is_finite() || lora.targets.is_empty() {
                        let message = "expected a finite --lora-alpha, and a name in --lora-targets";
                        return Err(format!("{prefix}lora-alpha {}: {message}", lora.alpha));
                    }
                }
            }
            Task::Sentiment { sizes, .. } => {
                within("vocab", sizes.vocab, 1, 1 << 20)?;
                within("length", sizes.length, 1, 1 << 14)?;
                within("width", sizes.width, 1, 1 << 12)?;
            }
            Task::Translate { config: c, .. } => {
                within("vocab", c.vocab_size, 4, 1 << 20)?;
                within("positions", c.positions, 1, 1 << 14)?;
                within("layers", c.encoder_layers.max(c.decoder_layers), 1, 1 << 10)?;
                within("width", c.width, 1, 1 << 15)?;
                within("hidden", c.hidden, 1, 1 << 17)?;
            }
            Task::Points { set, count, widths } => {
                set.parse::<PointSet>().map_err(|e| format!("{prefix}set: {e}"))?;
                within("points", *count, 2, 10_000_000)?;
                widths.iter().try_for_each(|&w| within("hidden", w, 1, 1 << 16))?;
                let ends = (widths.len() > 1).then(|| (widths[0], widths[widths.len() - 1]));
                if ends != Some((2, 2)) || self.classes.len() != 2 {
                    let classes = self.classes.len();
                    let message = format!("widths {widths:?} for {classes} classes: expected [2, .., 2] for 2");
                    return Err(format!("{prefix}{message}"));
                }
            }
        }
        Ok(())
    }
}
