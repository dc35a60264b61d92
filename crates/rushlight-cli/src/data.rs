//! Where a command's data comes from: a folder that is named, or what the project bundles.

use std::path::{Path, PathBuf};

use rushlight::Tensor;
use rushlight::data::TensorDataset;
use rushlight::data::images::image_folder;
use rushlight::data::points::{PointSet, points};
use rushlight::random::Generator;

use crate::Outcome;
use crate::run::{Run, Task};

/// Inputs and labels to learn from, and others to be measured on.
pub struct Labelled {
    /// `[n, ..]`, f32.
    pub train_x: Tensor,
    /// `[n]`, i64.
    pub train_y: Tensor,
    pub test_x: Tensor,
    pub test_y: Tensor,
    pub classes: Vec<String>,
}

/// A folder of the bundled data, looked for below the current folder, beside the program, and in the source tree.
pub fn bundled(name: &str) -> Outcome<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|p| p.parent().map(Path::to_path_buf));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let places = [Some(PathBuf::from(".")), beside, Some(source)];
    places
        .into_iter()
        .flatten()
        .map(|p| p.join("data").join(name))
        .find(|p| p.is_dir())
        .map(|p| p.canonicalize().unwrap_or(p))
        .ok_or_else(|| format!("the bundled data/{name} is not here; name a folder with --data").into())
}

/// Takes out a tenth of the rows, at least one, that `seed` draws.
pub fn split_tenth<T>(rows: &mut Vec<T>, seed: u64) -> Vec<T> {
    let mut taken = vec![false; rows.len()];
    Generator::new(seed)
        .permutation(rows.len())
        .iter()
        .take(rows.len().div_ceil(10))
        .for_each(|&i| taken[i as usize] = true);
    let mut taken = taken.into_iter();
    rows.extract_if(.., |_| taken.next().unwrap_or(false)).collect()
}

/// The four standard IDX files of a folder, pixels scaled to 0..1.
pub fn images(folder: &Path) -> Outcome<Labelled> {
    if !folder.is_dir() {
        let f = folder.display();
        return Err(format!("{f}: no such folder; --data names a folder of the four standard IDX files").into());
    }
    let classes = class_names(folder)?;
    let (train, test) = image_folder(folder, classes.len())?;
    let part = |set: &TensorDataset| match set.tensors() {
        [x, y] => Ok((x.clone(), y.clone())),
        other => Err(format!("{}: {} parts instead of images and labels", folder.display(), other.len())),
    };
    let ((train_x, train_y), (test_x, test_y)) = (part(&train)?, part(&test)?);
    for (set, x) in [("training", &train_x), ("test", &test_x)] {
        if x.dims()[0] == 0 {
            return Err(format!("{}: the {set} set holds no image", folder.display()).into());
        }
    }
    if train_x.dims()[1..] != test_x.dims()[1..] {
        let (a, b) = (train_x.shape(), test_x.shape());
        return Err(format!("{}: training images {a} and test images {b} differ in size", folder.display()).into());
    }
    Ok(Labelled { train_x, train_y, test_x, test_y, classes })
}

/// The images of a run's own folder or of `other`: of the size and as many classes as it was trained on.
pub fn images_of(run: &Run, other: Option<&Path>) -> Outcome<Labelled> {
    let Task::Images { data, height, width, .. } = &run.config.task else {
        return Err(format!("{} is no run of train images", run.folder.display()).into());
    };
    let folder = other.unwrap_or(data);
    let set = images(folder)?;
    let (h, w) = (set.train_x.dims()[2], set.train_x.dims()[3]);
    let (found, classes) = (set.classes.len(), run.config.classes.len());
    if (h, w, found) != (*height, *width, classes) {
        return Err(format!(
            "{}: images of {h} x {w} in {found} classes, but {} was trained on {height} x {width} in {classes}",
            folder.display(),
            run.folder.display()
        )
        .into());
    }
    Ok(set)
}

/// One name a line from `classes.txt`; without it Fashion-MNIST's for a folder of that name, else ten digits.
fn class_names(folder: &Path) -> Outcome<Vec<String>> {
    let file = folder.join("classes.txt");
    if file.exists() {
        let names: Vec<String> = rushlight::data::text::read_lines(&file)?
            .into_iter()
            .map(|l| l.trim().to_string())
            .filter(|l| !l.is_empty())
            .collect();
        return if names.is_empty() { Err(format!("{}: no class names", file.display()).into()) } else { Ok(names) };
    }
    const FASHION: [&str; 10] =
        ["T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];
    if folder.to_string_lossy().to_lowercase().contains("fashion") {
        return Ok(FASHION.map(String::from).to_vec());
    }
    Ok((0..10).map(|d| d.to_string()).collect())
}

/// Points in the unit square, moved to be centred on 0: `n` to learn from and as many fresh ones to be measured on.
pub fn point_set(set: PointSet, n: usize, seed: u64) -> Outcome<Labelled> {
    let load = |seed: u64| -> Outcome<(Tensor, Tensor)> {
        let p = points(set, n, seed);
        let x = Tensor::from_vec(p.xy.concat(), [n, 2])?.mul(2.0)?.sub(1.0)?;
        let y = Tensor::from_vec(p.labels.iter().map(|&l| l as i64).collect(), n)?;
        Ok((x, y))
    };
    let (train_x, train_y) = load(seed)?;
    let (test_x, test_y) = load(seed.wrapping_add(1))?;
    Ok(Labelled { train_x, train_y, test_x, test_y, classes: vec!["0".into(), "1".into()] })
}
