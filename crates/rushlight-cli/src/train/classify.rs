//! Training a classifier whose samples are rows of a tensor: images and points.

use rushlight::Tensor;
use rushlight::data::{DataLoader, TensorDataset};
use rushlight::loss::nll_loss;
use rushlight::nn::Layer;

use super::Start;
use super::session::{self, Score, Test, Training};
use crate::classifier::{self, Measured};
use crate::data::Labelled;
use crate::run::Run;
use crate::{Outcome, picture};

/// A classifier that gives log-probabilities.
struct Classify<'a, M> {
    set: &'a Labelled,
    loader: DataLoader<TensorDataset, Vec<Tensor>>,
    vary: fn(&Tensor) -> Outcome<Tensor>,
    model: std::marker::PhantomData<M>,
}

impl<M: Layer> Training for Classify<'_, M> {
    type Model = M;

    fn summary(&self) -> String {
        format!("{} training and {} test samples", self.set.train_x.dims()[0], self.set.test_x.dims()[0])
    }

    fn batches(&self, _: usize) -> usize {
        self.loader.len()
    }

    fn epoch(&self, epoch: usize, from: usize) -> Box<dyn Iterator<Item = rushlight::Result<Vec<Tensor>>> + '_> {
        Box::new(self.loader.epoch_from(epoch as u64, from))
    }

    fn vary(&self, mut batch: Vec<Tensor>) -> Outcome<Vec<Tensor>> {
        batch[0] = (self.vary)(&batch[0])?;
        Ok(batch)
    }

    fn score(&self, model: &M, batch: &[Tensor]) -> Outcome<Score> {
        let (x, y) = (&batch[0], &batch[1]);
        let output = model.forward(x)?;
        Ok(Score { loss: nll_loss(&output, y)?, right: classifier::count_right(&output, y)?, seen: y.numel() as u64 })
    }

    fn measure(&self, model: &mut M) -> Outcome<Test> {
        let set = self.set;
        let test = Measured::of(model, &set.test_x, &set.test_y, set.classes.len())?;
        Ok(Test { loss: test.loss, accuracy: test.accuracy() })
    }
}

/// Trains `model` as the run's config says, on batches that `vary` makes other ones, and shows each class; `false` if
/// Ctrl-C ended it early.
pub fn fit(
    run: &Run,
    model: &mut impl Layer,
    set: &Labelled,
    vary: fn(&Tensor) -> Outcome<Tensor>,
    start: Start,
) -> Outcome<bool> {
    let samples = TensorDataset::new([set.train_x.clone(), set.train_y.clone()])?;
    let loader = DataLoader::new(samples, run.config.batch)?.shuffle(run.config.seed);
    let task = Classify { set, loader, vary, model: std::marker::PhantomData };
    let Some(seconds) = session::fit(run, &task, model, start)? else { return Ok(false) };
    let test = Measured::of(model, &set.test_x, &set.test_y, set.classes.len())?;
    say!("\n{}", test.table(&set.classes));
    say!("test accuracy {:.2}% after {seconds:.1} s", 100.0 * test.accuracy());
    picture::confusion(run.path("confusion"), &set.classes, &test.confusion)?;
    say!("model, history and pictures are in {}", run.folder.display());
    Ok(true)
}
