//! Folders of pictures laid out as MNIST is, as tensors.

use std::path::Path;

use super::idx::{self, find_idx_folder, images_and_labels};
use super::{Dataset, TensorDataset};
use crate::{DType, Error, Result, Tensor};

/// The training and the test set of a folder with the four IDX files: pictures `[n, 1, height, width]`, f32 from 0
/// (black) to 1, and their classes `[n]`, i64, below `classes`.
///
/// Errors: those of [`find_idx_folder`] and [`images_and_labels`]; a set without a picture; pictures for training and
/// for testing that differ in size.
pub fn image_folder(dir: impl AsRef<Path>, classes: usize) -> Result<(TensorDataset, TensorDataset)> {
    let files = find_idx_folder(dir)?;
    let train = tensors(&images_and_labels(&files.train_images, &files.train_labels, classes)?)?;
    let test = tensors(&images_and_labels(&files.test_images, &files.test_labels, classes)?)?;
    for (set, path) in [(&train, &files.train_images), (&test, &files.test_images)] {
        if set.is_empty() {
            return Err(Error::format(path, 4, "no pictures"));
        }
    }
    let [a, b] = [&train, &test].map(|set| &set.tensors()[0].dims()[2..]);
    if a != b {
        let message = format!("pictures of {b:?}, where those of {} are {a:?}", files.train_images.display());
        return Err(Error::format(&files.test_images, 8, message));
    }
    Ok((train, test))
}

fn tensors(images: &idx::Images) -> Result<TensorDataset> {
    let &idx::Images { height, width, ref pixels, ref labels } = images;
    let pixels = Tensor::from_slice(pixels, [labels.len(), 1, height, width])?;
    let labels = Tensor::from_slice(labels, labels.len())?;
    TensorDataset::new([pixels.to_dtype(DType::F32)?.div(255.0)?, labels.to_dtype(DType::I64)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::idx::{Idx, write_idx};

    fn write(dir: &Path, part: &str, dims: [usize; 3], pixels: &[u8], labels: &[u8]) {
        let idx = |dims: &[usize], data: &[u8]| Idx { dims: dims.to_vec(), data: data.to_vec() };
        write_idx(dir.join(format!("{part}-images-idx3-ubyte.gz")), &idx(&dims, pixels)).unwrap();
        write_idx(dir.join(format!("{part}-labels-idx1-ubyte")), &idx(&dims[..1], labels)).unwrap();
    }

    #[test]
    fn pictures_and_classes() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "train", [2, 1, 3], &[0, 51, 255, 102, 0, 0], &[9, 3]);
        write(dir.path(), "t10k", [1, 1, 3], &[255; 3], &[0]);
        let (train, test) = image_folder(dir.path(), 10).unwrap();
        let [x, y] = train.tensors() else { panic!() };
        assert_eq!((x.dims(), x.to_vec::<f32>().unwrap()), (&[2, 1, 1, 3][..], vec![0.0, 0.2, 1.0, 0.4, 0.0, 0.0]));
        assert_eq!(y.to_vec::<i64>().unwrap(), [9, 3]);
        assert_eq!((test.len(), test.tensors()[0].to_vec::<f32>().unwrap()), (1, vec![1.0; 3]));
        assert!(image_folder(dir.path(), 9).err().unwrap().to_string().contains("label 0 is 9"));

        write(dir.path(), "t10k", [1, 3, 1], &[255; 3], &[0]);
        let error = image_folder(dir.path(), 10).err().unwrap().to_string();
        assert!(error.contains("t10k") && error.contains("pictures of [3, 1]"), "{error}");
        write(dir.path(), "t10k", [0, 1, 3], &[], &[]);
        assert!(image_folder(dir.path(), 10).err().unwrap().to_string().contains("no pictures"));
    }
}
