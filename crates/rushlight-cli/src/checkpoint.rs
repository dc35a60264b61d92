//! Networks and checkpoints in a run folder: written whole, each with a checksum, the last two kept.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rushlight::io::{JsonError, from_json, load_checked, save_checked};
use rushlight::nn::{Module, StateDict};
use rushlight::optim::Optimizer;
use rushlight::random;

use crate::Outcome;
use crate::run::{Progress, Run};

pub const NEWEST: &str = "checkpoint.safetensors";
pub const PREVIOUS: &str = "checkpoint.previous.safetensors";
/// One that is being written; `Run::metrics` removes it.
const NEXT: &str = ".rushlight-checkpoint.tmp";
/// Where a newest one goes that cannot be read: out of the way of the next.
const DAMAGED: &str = "checkpoint.damaged.safetensors";

type Content = (StateDict, BTreeMap<String, String>);

impl Run {
    /// Writes the trained network.
    pub fn save_model(&self, model: &impl Module) -> Outcome {
        let mut metadata = self.about()?;
        metadata.insert("config".to_string(), serde_json::to_string(&self.config)?);
        Ok(save_checked(self.path(self.config.task.model_file()), &model.state_dict(), &metadata)?)
    }

    /// Reads the trained network, or the last checkpoint's where training has not ended.
    pub fn load_model(&self, model: &mut impl Module) -> Outcome {
        let path = self.path(self.config.task.model_file());
        if path.exists() {
            let (state, metadata) = load_checked(&path).map_err(|e| {
                format!("{e}; rushlight {} --resume {} makes it anew", self.config.task.command(), self.folder())
            })?;
            self.check_tokenizer(&path, &metadata)?;
            return model.load_state_dict(&state).map_err(|e| format!("{}: {e}", path.display()).into());
        }
        let (path, (all, metadata), _) = self.last_checkpoint()?;
        self.check_tokenizer(&path, &metadata)?;
        model.load_state_dict(&part(&all, "model.")).map_err(|e| format!("{}: {e}", path.display()).into())
    }

    /// Writes all that `--resume` needs, in one file. The one before is kept beside it.
    pub fn save_checkpoint(&self, model: &impl Module, optimizer: &Optimizer, progress: &Progress) -> Outcome {
        self.save_checkpoint_of(model, optimizer.state_dict()?, progress)
    }

    /// [`Run::save_checkpoint`] with the state of an optimizer.
    pub fn save_checkpoint_of(&self, model: &impl Module, optimizer: StateDict, progress: &Progress) -> Outcome {
        let mut all = StateDict::new();
        all.extend(model.state_dict().into_iter().map(|(k, v)| (format!("model.{k}"), v)));
        all.extend(optimizer.into_iter().map(|(k, v)| (format!("optimizer.{k}"), v)));
        let mut metadata = self.about()?;
        metadata.insert("progress".to_string(), serde_json::to_string(progress)?);
        metadata.insert("random".to_string(), serde_json::to_string(&random::state())?);
        // Names change hands when the new one is whole. Whoever is killed between the two renames has the previous one.
        let (next, newest) = (self.path(NEXT), self.path(NEWEST));
        save_checked(&next, &all, &metadata)?;
        let rename = |from: &Path, to: &Path| fs::rename(from, to).map_err(|e| format!("{}: {e}", to.display()));
        if newest.exists() {
            rename(&newest, &self.path(PREVIOUS))?;
        }
        Ok(rename(&next, &newest)?)
    }

    /// Puts model, optimizer and generator where the last checkpoint left them, and says where that is.
    ///
    /// Where it is damaged, and the one before is not, that one; the damaged one is put aside.
    pub fn load_checkpoint(&self, model: &mut impl Module, optimizer: &mut Optimizer) -> Outcome<Progress> {
        let (path, (all, metadata), damaged) = self.last_checkpoint()?;
        self.check_tokenizer(&path, &metadata)?;
        let named = |key: &str| {
            metadata.get(key).ok_or_else(|| format!("{}: no {key} in it; not a checkpoint of ours", path.display()))
        };
        let bad = |key: &str, e: JsonError| format!("{}: {key}: {e}", path.display());
        let progress: Progress = from_json(named("progress")?).map_err(|e| bad("progress", e))?;
        progress.check().map_err(|e| format!("{}: {e}", path.display()))?;
        let generator = from_json(named("random")?).map_err(|e| bad("random", e))?;
        let in_file = |e: rushlight::Error| format!("{}: {e}", path.display());
        model.load_state_dict(&part(&all, "model.")).map_err(in_file)?;
        optimizer.load_state_dict(&part(&all, "optimizer.")).map_err(in_file)?;
        random::set_state(generator);
        if damaged {
            // Or the next checkpoint would take it for the previous one.
            let aside = self.path(DAMAGED);
            fs::rename(self.path(NEWEST), &aside).map_err(|e| format!("{}: {e}", aside.display()))?;
        }
        Ok(progress)
    }

    /// The newest checkpoint that is whole, and whether there is a newer one that is damaged.
    fn last_checkpoint(&self) -> Outcome<(PathBuf, Content, bool)> {
        let (newest, previous) = (self.path(NEWEST), self.path(PREVIOUS));
        let error = match load_checked(&newest) {
            Ok(content) => return Ok((newest, content, false)),
            Err(e) => e,
        };
        // Only the content tells what to do without: memory that is refused, or rights, are no damage.
        let absent = !newest.exists();
        if !(absent || matches!(error, rushlight::Error::Format { .. })) || !previous.exists() {
            return Err(error.into());
        }
        let content = load_checked(&previous).map_err(|e| format!("{error}; and the one before: {e}"))?;
        eprintln!("warning: {error}; the checkpoint before it is used");
        Ok((previous, content, !absent))
    }

    fn folder(&self) -> std::path::Display<'_> {
        self.folder.display()
    }

    /// Removes the checkpoints of a run that was killed while it was made.
    pub fn forget_checkpoints(&self) {
        for name in [NEWEST, PREVIOUS] {
            let _ = fs::remove_file(self.path(name));
        }
    }

    /// What every file of tensors says of the run: the checksum of its tokenizer.json, without which they mean nothing.
    fn about(&self) -> Outcome<BTreeMap<String, String>> {
        if self.tokenizer.is_none() {
            return Ok(BTreeMap::new());
        }
        let sum = match self.tokenizer_sum.get() {
            Some(sum) => sum.clone(),
            None => {
                let path = self.path("tokenizer.json");
                let bytes = fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
                self.tokenizer_sum.get_or_init(|| format!("{:08x}", crc32fast::hash(&bytes))).clone()
            }
        };
        Ok(BTreeMap::from([("tokenizer".to_string(), sum)]))
    }

    /// Errors: tokens that were others when the file was written.
    fn check_tokenizer(&self, path: &Path, metadata: &BTreeMap<String, String>) -> Outcome {
        for (key, sum) in self.about()? {
            let kept = metadata.get(&key);
            if kept != Some(&sum) {
                let tokens = self.path("tokenizer.json");
                let kept = kept.map_or("none", |kept| kept);
                return Err(format!(
                    "{}: it has changed since {} was written: its checksum is {sum}, not {kept}",
                    tokens.display(),
                    path.display()
                )
                .into());
            }
        }
        Ok(())
    }
}

/// The tensors whose name starts with `prefix`, without it.
fn part(all: &StateDict, prefix: &str) -> StateDict {
    all.iter().filter_map(|(k, v)| Some((k.strip_prefix(prefix)?.to_string(), v.clone()))).collect()
}
