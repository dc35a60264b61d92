//! The run folder: what a training leaves behind, and finds again.
//!
//! ```text
//! RUN/config.json              how to train it again
//! RUN/metrics.jsonl            one line a step, an epoch, a look at the gradients
//! RUN/tokenizer.json           how text becomes tokens, where it learns from text
//! RUN/model.safetensors        the trained network
//! RUN/adapter.safetensors      what `finetune` learnt beside a network, where it left that as it is
//! RUN/checkpoint.safetensors   all that --resume needs: network, optimizer, generator, place
//! RUN/checkpoint.previous.safetensors  the one before, for when the newest is damaged
//! RUN/*.svg, *.png             pictures
//! ```

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rushlight::data::points::PointSet;
use rushlight::io::write_atomic;
use rushlight::nn::Module;
use rushlight::optim::Optimizer;
use rushlight_models::text::Tokenizer;
use rushlight_models::{GptConfig, TranslatorConfig};
use serde::{Deserialize, Serialize};

use crate::Outcome;

/// What a run trains, and how: `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    pub version: String,
    pub task: Task,
    pub epochs: usize,
    pub batch: usize,
    pub lr: f64,
    pub seed: u64,
    pub classes: Vec<String>,
}

/// What is learned from what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "lowercase")]
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
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, clap::ValueEnum)]
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
    fn vocab(&self) -> Option<usize> {
        match self {
            Task::Gpt { config, .. } => Some(config.vocab_size),
            Task::Sentiment { sizes, .. } => Some(sizes.vocab),
            Task::Translate { config, .. } => Some(config.vocab_size),
            // The tokenizer of a model that is tuned stays with that.
            Task::Images { .. } | Task::Points { .. } | Task::Finetune { .. } => None,
        }
    }
}

/// How far a training has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Whole epochs done.
    pub epoch: usize,
    /// Batches done of the epoch begun.
    pub batch: usize,
    /// Steps in all.
    pub step: u64,
    /// Sums over the epoch begun: loss times samples, right answers, samples.
    pub loss_sum: f64,
    pub right: u64,
    pub seen: u64,
    /// Steps that were left out, since their loss or gradient was no number.
    #[serde(default)]
    pub skipped: u64,
    /// Seconds trained before this session.
    pub seconds: f64,
    /// Bytes of metrics.jsonl that belong to this place.
    pub metrics: u64,
}

impl Config {
    /// Refuses what cannot be trained. `prefix` leads to the name: `--` on the command line, else the file.
    fn check(&self, prefix: &str) -> Outcome {
        let within = |name: &str, value: usize, least: usize, most: usize| match value {
            v if v < least => Err(format!("{prefix}{name} {v}: expected {least} or more")),
            v if v > most => Err(format!("{prefix}{name} {v}: expected at most {most}")),
            _ => Ok(()),
        };
        within("epochs", self.epochs, 1, usize::MAX)?;
        within("batch", self.batch, 1, usize::MAX)?;
        if !self.lr.is_finite() || self.lr < 0.0 {
            return Err(format!("{prefix}lr {}: expected a finite rate of 0 or more", self.lr).into());
        }
        match &self.task {
            Task::Images { height, width, .. } if *height.max(width) > 4096 => {
                let file = prefix.trim_start_matches('-');
                return Err(format!("{file}images of {height} x {width}: expected at most 4096 x 4096").into());
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
                        return Err(format!("{prefix}lora-alpha {}: {message}", lora.alpha).into());
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
                    return Err(format!("{prefix}{message}").into());
                }
            }
        }
        Ok(())
    }
}

pub struct Run {
    pub folder: PathBuf,
    pub config: Config,
    pub(crate) tokenizer: Option<Tokenizer>,
    /// The checksum of tokenizer.json, once it was asked for.
    pub(crate) tokenizer_sum: OnceLock<String>,
}

impl Run {
    /// A run to be made, of which nothing is on the disk yet; refuses a folder that holds one already.
    pub fn new(folder: &Path, config: Config) -> Outcome<Run> {
        config.check("--")?;
        // A checkpoint alone is what a run leaves that was killed while it was made.
        if ["config.json", "metrics.jsonl", config.task.model_file()].iter().any(|f| folder.join(f).exists()) {
            let f = folder.display();
            return Err(
                format!("{f} holds a run already; go on with --resume {f}, or name another folder with --out").into()
            );
        }
        Ok(Run { folder: folder.to_path_buf(), config, tokenizer: None, tokenizer_sum: OnceLock::new() })
    }

    /// A run to be made whose tokens are those of `tokenizer`, which it keeps.
    pub fn with_tokenizer(self, tokenizer: Tokenizer) -> Run {
        Run { tokenizer: Some(tokenizer), ..self }
    }

    /// What made text tokens in training.
    pub fn tokenizer(&self) -> Outcome<&Tokenizer> {
        self.tokenizer.as_ref().ok_or_else(|| format!("{} is no run of text", self.folder.display()).into())
    }

    /// Makes the folder of a new run: a checkpoint of its start, so that it can be gone on with from here on, then
    /// config.json, which makes it a run. What fails leaves neither.
    pub fn create(&self, model: &impl Module, optimizer: &Optimizer) -> Outcome {
        let there = self.folder.exists();
        std::fs::create_dir_all(&self.folder).map_err(|e| format!("{}: {e}", self.folder.display()))?;
        self.forget_checkpoints();
        let checkpoint = |()| self.save_checkpoint(model, optimizer, &Progress::default());
        let made = self.save_tokenizer().and_then(checkpoint).and_then(|()| self.save_config());
        if made.is_err() {
            self.forget_checkpoints();
            if self.tokenizer.is_some() {
                let _ = std::fs::remove_file(self.path("tokenizer.json"));
            }
            if !there {
                let _ = std::fs::remove_dir(&self.folder);
            }
        }
        made
    }

    /// Writes tokenizer.json, where the run has one.
    pub fn save_tokenizer(&self) -> Outcome {
        self.tokenizer.as_ref().map_or(Ok(()), |t| Ok(t.save(self.path("tokenizer.json"))?))
    }

    /// Writes config.json, which makes a folder a run.
    pub fn save_config(&self) -> Outcome {
        let (path, text) = (self.path("config.json"), serde_json::to_string_pretty(&self.config)?);
        Ok(write_atomic(&path, |f| writeln!(f, "{text}").map_err(|e| rushlight::Error::io(&path, e)))?)
    }

    /// An existing run folder.
    pub fn open(folder: &Path) -> Outcome<Run> {
        let path = folder.join("config.json");
        let file =
            File::open(&path).map_err(|e| format!("{}: {e}; is {} a run folder?", path.display(), folder.display()))?;
        let config: Config =
            serde_json::from_reader(BufReader::new(file)).map_err(|e| format!("{}: {e}", path.display()))?;
        config.check(&format!("{}: ", path.display()))?;
        let tokenizer = match config.task.vocab() {
            Some(vocab) => {
                let path = folder.join("tokenizer.json");
                let tokenizer = Tokenizer::load(&path)?;
                tokenizer.check_vocab_size(vocab).map_err(|e| format!("{}: {e}", path.display()))?;
                Some(tokenizer)
            }
            None => None,
        };
        Ok(Run { folder: folder.to_path_buf(), config, tokenizer, tokenizer_sum: OnceLock::new() })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// metrics.jsonl, cut to what belongs to a checkpoint: later lines come again. Lines that were lost stay lost.
    pub fn metrics(&self, keep: u64) -> Outcome<Metrics> {
        let path = self.path("metrics.jsonl");
        let open = || -> std::io::Result<Metrics> {
            let old = if keep == 0 { vec![] } else { std::fs::read(&path)? };
            let old = &old[..old.len().min(keep as usize)];
            let keep = old.iter().rposition(|&b| b == b'\n').map_or(0, |i| i as u64 + 1);
            let mut file = File::options().create(true).truncate(false).write(true).open(&path)?;
            match file.try_lock() {
                Err(std::fs::TryLockError::WouldBlock) => {
                    return Err(std::io::Error::other("another training writes to it; wait for its end, or stop it"));
                }
                // Some file systems know no locks.
                Ok(()) | Err(std::fs::TryLockError::Error(_)) => self.tidy(),
            }
            file.set_len(keep)?;
            std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(keep))?;
            Ok(Metrics { path: path.clone(), file, bytes: keep })
        };
        open().map_err(|e| format!("{}: {e}", path.display()).into())
    }

    /// Removes the unfinished files of a session that was killed. Whoever calls this is the only one who trains here.
    fn tidy(&self) {
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(".rushlight-") && name.ends_with(".tmp") {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// All lines of metrics.jsonl.
    pub fn read_metrics(&self) -> Outcome<Vec<Metric>> {
        let path = self.path("metrics.jsonl");
        let file = File::open(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut out = vec![];
        for (i, line) in BufReader::new(file).lines().enumerate() {
            let parsed = serde_json::from_str(&line?);
            out.push(parsed.map_err(|e| format!("{}: line {}: {e}", path.display(), i + 1))?);
        }
        Ok(out)
    }
}

/// One line of metrics.jsonl.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Metric {
    Step {
        step: u64,
        loss: f64,
        lr: f64,
    },
    Epoch {
        epoch: usize,
        step: u64,
        train_loss: f64,
        train_accuracy: f64,
        test_loss: f64,
        test_accuracy: f64,
        seconds: f64,
    },
    Flow(rushlight::optim::flow::FlowRecord),
}

/// The open metrics.jsonl.
pub struct Metrics {
    path: PathBuf,
    file: File,
    pub bytes: u64,
}

impl Metrics {
    pub fn write(&mut self, metric: &Metric) -> Outcome {
        let line = serde_json::to_string(metric)? + "\n";
        self.file.write_all(line.as_bytes()).map_err(|e| format!("{}: {e}", self.path.display()))?;
        self.bytes += line.len() as u64;
        Ok(())
    }
}
