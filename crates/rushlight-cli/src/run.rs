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

use rushlight::io::{from_json, write_atomic};
use rushlight::nn::Module;
use rushlight::optim::Optimizer;
use rushlight_models::text::Tokenizer;
use serde::{Deserialize, Serialize};

use crate::Outcome;
use crate::checkpoint::{NEWEST, PREVIOUS};
pub use crate::config::{Config, LoraSizes, Task, TextModel, TextSizes};

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

impl Progress {
    /// Errors: what no training comes to, so that nothing overflows that is counted on from here.
    pub fn check(&self) -> Result<(), String> {
        const MOST: u64 = 1 << 48;
        let counts = [
            ("epoch", self.epoch as u64),
            ("batch", self.batch as u64),
            ("step", self.step),
            ("right", self.right),
            ("seen", self.seen),
            ("skipped", self.skipped),
        ];
        if let Some((name, count)) = counts.iter().find(|(_, count)| *count > MOST) {
            return Err(format!("{name} {count} in its progress: no training comes so far"));
        }
        if !(self.loss_sum.is_finite() && self.seconds.is_finite() && self.seconds >= 0.0) {
            return Err(format!("loss_sum {}, seconds {} in its progress", self.loss_sum, self.seconds));
        }
        Ok(())
    }
}

/// A network that may be made without a file that shows it was there.
const SMALL: u64 = 64 << 20;

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
        plain_files(folder)?;
        let config = Config::read(&folder.join("config.json"))?;
        // What a stranger's file asks for is not made before there is a network of about that size.
        let size = |name: &&str| std::fs::metadata(folder.join(name)).map_or(0, |m| m.len());
        let there = ["model.safetensors", NEWEST, PREVIOUS].iter().map(size).max().unwrap_or(0);
        let asked = config.least_bytes();
        if asked > there.max(SMALL) {
            let message = format!("asks for a network of {asked} bytes or more, where the folder's files have {there}");
            return Err(format!("{}: {message}", folder.join("config.json").display()).into());
        }
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
            let parsed = from_json(line?);
            out.push(parsed.map_err(|e| format!("{}: line {}: {e}", path.display(), i + 1))?);
        }
        Ok(out)
    }
}

/// Refuses a folder of which a file leads elsewhere: going on with the run would write there, and a device has no end.
/// (Pictures are replaced, not followed.)
fn plain_files(folder: &Path) -> Outcome {
    let written = ["config.json", "metrics.jsonl", "tokenizer.json", "model.safetensors", "adapter.safetensors"];
    for name in written.into_iter().chain([NEWEST, PREVIOUS]) {
        let path = folder.join(name);
        let Ok(found) = std::fs::symlink_metadata(&path) else { continue };
        if !found.is_file() {
            let what = if found.is_symlink() { "a symbolic link" } else { "not a file" };
            return Err(format!("{}: {what}; a run folder holds plain files", path.display()).into());
        }
    }
    Ok(())
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
