//! A model that learns on from where another left it: all of it, or adapters beside it.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use rushlight::Tensor;
use rushlight::nn::{Description, Module, Path as Place, Visitor, VisitorMut};
use rushlight_models::{Lora, Network};

use crate::language::is_pretrained;
use crate::run::{LoraSizes, Run, Task};
use crate::{Outcome, gpt};

/// The network, and its adapters where only those learn. What is visited is what learns.
pub struct Tuned {
    pub network: Network,
    lora: Option<Lora>,
}

impl Tuned {
    /// Quantised weights become f32. Errors: no matrix has a name that is asked for.
    pub fn new(mut network: Network, sizes: Option<&LoraSizes>) -> Outcome<Tuned> {
        network.set_requires_grad(true)?;
        let lora = match sizes {
            Some(LoraSizes { rank, alpha, targets }) => {
                let end = |target: &String| format!(".{}.weight", target.trim_start_matches('.'));
                let ends: Vec<String> = targets.iter().map(end).collect();
                let wanted = |name: &str| ends.iter().any(|end| name.ends_with(end));
                let made = Lora::new(&mut network, *rank, *alpha, wanted);
                Some(made.map_err(|e| format!("--lora-targets {}: {e}", targets.join(",")))?)
            }
            None => None,
        };
        Ok(Tuned { network, lora })
    }

    /// The matrices follow the adapters: before each step, and before anything is measured.
    pub fn prepare(&mut self) -> rushlight::Result<()> {
        match &self.lora {
            Some(lora) => lora.apply(&mut self.network),
            None => Ok(()),
        }
    }

    pub fn logits(&self, tokens: &Tensor) -> rushlight::Result<Tensor> {
        self.network.logits(tokens)
    }

    /// The network with what was learnt in it.
    pub fn merge(self) -> Outcome<Network> {
        let Tuned { mut network, lora } = self;
        if let Some(lora) = lora {
            lora.merge(&mut network)?;
        }
        network.eval();
        Ok(network)
    }

    /// What a run of `finetune` has made of the network that it began with.
    pub fn load(run: &Run, network: Network) -> Outcome<Network> {
        let Task::Finetune { lora, .. } = &run.config.task else {
            return Err(format!("{} is no run of finetune", run.folder.display()).into());
        };
        check_base(run)?;
        let mut tuned = Tuned::new(network, lora.as_ref())?;
        run.load_model(&mut tuned)?;
        tuned.merge()
    }
}

impl Module for Tuned {
    fn visit(&self, path: &mut Place, f: &mut Visitor<'_>) {
        match &self.lora {
            Some(lora) => lora.visit(path, f),
            None => self.network.visit(path, f),
        }
    }

    fn visit_mut(&mut self, path: &mut Place, f: &mut VisitorMut<'_>) -> rushlight::Result<()> {
        match &mut self.lora {
            Some(lora) => lora.visit_mut(path, f),
            None => self.network.visit_mut(path, f),
        }
    }

    fn set_training(&mut self, training: bool) {
        self.network.set_training(training);
    }

    /// In a line: the networks that are tuned have hundreds of layers.
    fn describe(&self) -> Description {
        let Description { name, .. } = self.network.describe();
        let learns = match &self.lora {
            Some(lora) => lora.describe().to_string(),
            None => "all parameters".to_string(),
        };
        Description::leaf(&name, format!("{} parameters, of which learn: {learns}", self.network.num_parameters()))
    }
}

/// A checksum of the files that hold a model's weights: what was learnt beside others would be of no use.
pub fn checksum(model: &Path) -> Outcome<String> {
    let mut files: Vec<PathBuf> = match model.is_dir() {
        false => vec![model.to_path_buf()],
        true => fs::read_dir(model)?.map(|e| Ok(e?.path())).collect::<std::io::Result<_>>()?,
    };
    if model.is_dir() {
        let name = |path: &PathBuf| path.file_name().map(|n| n.to_string_lossy().to_string()).unwrap_or_default();
        // Of a run, what it learnt; nothing that it may write anew.
        files.retain(|path| name(path).ends_with(".safetensors") && !name(path).contains("checkpoint"));
        files.sort();
    }
    let mut hash = crc32fast::Hasher::new();
    let mut chunk = vec![0; 1 << 20];
    for path in files {
        let refused = |e| format!("{}: {e}", path.display());
        let mut file = File::open(&path).map_err(refused)?;
        loop {
            match file.read(&mut chunk).map_err(refused)? {
                0 => break,
                n => hash.update(&chunk[..n]),
            }
        }
    }
    Ok(format!("{:08x}", hash.finalize()))
}

/// Errors: the model that a run stands on is another than when it began.
pub fn check_base(run: &Run) -> Outcome {
    let Task::Finetune { model, sum, .. } = &run.config.task else { return Ok(()) };
    let found = checksum(model)?;
    if found == *sum {
        return Ok(());
    }
    let (model, folder) = (model.display(), run.folder.display());
    Err(format!("{model} has changed since {folder} began with it: its checksum is {found}, not {sum}").into())
}

/// Writes the whole network as the model `origin` is kept, into the run's folder, and says where: a GGUF file, a folder
/// as Hugging Face keeps it, or a run of `train gpt`.
pub fn write_merged(run: &Run, network: &Network, origin: &Path) -> Outcome<PathBuf> {
    if is_pretrained(origin) {
        let target = run.path(if origin.is_dir() { "merged" } else { "merged.gguf" });
        network.save_like(origin, &target)?;
        return Ok(target);
    }
    let (from, target) = (Run::open(origin)?, run.path("merged"));
    gpt::task(&from)?;
    fs::create_dir_all(&target).map_err(|e| format!("{}: {e}", target.display()))?;
    let merged = Run { folder: target.clone(), config: from.config.clone(), ..from };
    merged.save_tokenizer()?;
    merged.save_model(network)?;
    merged.save_config()?;
    Ok(target)
}
