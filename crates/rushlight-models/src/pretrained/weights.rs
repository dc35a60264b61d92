//! The weights of a network from a file that names them otherwise.

use std::collections::HashSet;

use rushlight::io::TensorFile;
use rushlight::nn::{Module, Path};
use rushlight::{DType, Error, Result, Tensor};

/// Complaints that are listed.
const LISTED: usize = 8;

/// How a file names and lays out the weights of a network.
pub(super) struct Names<'a> {
    /// The file's name of a parameter.
    pub of: &'a dyn Fn(&str) -> String,
    /// Whether the file has the parameter's matrix the other way round.
    pub turned: &'a dyn Fn(&str) -> bool,
    /// Whether a tensor of the file (by its name there) is known not to be needed.
    pub unused: &'a dyn Fn(&str) -> bool,
    /// Whether a parameter is left as it is, for the caller to take it as the file keeps it.
    pub kept: &'a dyn Fn(&str) -> bool,
}

/// A matrix without memory, to be replaced by one of a file.
pub(super) fn placeholder(shape: &[usize]) -> Result<Tensor> {
    Tensor::zeros((), DType::F32)?.expand(shape)
}

/// Whether a file can have the network that its configuration speaks of, before that is made: its first table is
/// `[rows, width]`, and there are at least as many tensors as layers. So memory is bounded by what the file holds.
pub(super) fn check_sizes(file: &TensorFile, table: &str, [rows, width]: [usize; 2], layers: usize) -> Result<()> {
    let refuse = |message: String| Err(Error::format(file.path(), 0, message));
    match file.info(table) {
        None => refuse(format!("no tensor {table:?} among {}", file.infos().len())),
        Some(info) if info.shape.dims() != [rows, width] => {
            refuse(format!("{table} has shape {}, the configuration says [{rows}, {width}]", info.shape))
        }
        _ if layers > file.infos().len() => {
            refuse(format!("{} tensors, too few for the {layers} layers of the configuration", file.infos().len()))
        }
        _ => Ok(()),
    }
}

/// Gives each parameter of `network` the numbers that the file has for it, as f32, and asks for their gradients, unless
/// some are kept as they are in the file.
///
/// Errors: parameters that the file has not, or of another shape, and tensors that the network has no place for: up to
/// eight of them, by the file's names.
pub(super) fn load(network: &mut dyn Module, file: &TensorFile, names: &Names<'_>) -> Result<()> {
    let (mut problems, mut used) = (vec![], HashSet::new());
    network.visit(&mut Path::default(), &mut |own, _, t| {
        let name = (names.of)(own);
        let mut shape = t.dims().to_vec();
        if (names.turned)(own) {
            shape.reverse();
        }
        match file.info(&name) {
            None => problems.push(format!("missing {name} {shape:?}")),
            Some(info) if info.shape.dims() != shape => {
                problems.push(format!("{name} has shape {}, the network's is {shape:?}", info.shape));
            }
            Some(info) if !info.stored.dtype().is_some_and(DType::is_float) => {
                problems.push(format!("{name} is kept as {}, expected floats", info.stored));
            }
            _ => {}
        }
        used.insert(name);
    });
    let others = file.infos().iter().filter(|info| !used.contains(&info.name) && !(names.unused)(&info.name));
    problems.extend(others.map(|info| format!("unknown {}", info.name)));
    if !problems.is_empty() {
        let more = problems.len().saturating_sub(LISTED);
        problems.truncate(LISTED);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        let message = format!("the tensors are not those of the network: {}{more}", problems.join("; "));
        return Err(Error::format(file.path(), 0, message));
    }
    let mut trained = true;
    network.visit(&mut Path::default(), &mut |own, _, _| trained &= !(names.kept)(own));
    network.visit_mut(&mut Path::default(), &mut |own, _, t| {
        if (names.kept)(own) {
            return Ok(());
        }
        let mut new = file.tensor(&(names.of)(own))?.to_dtype(DType::F32)?;
        if (names.turned)(own) {
            new = new.t()?.contiguous()?;
        }
        *t = if trained { new.requires_grad()? } else { new };
        Ok(())
    })
}
