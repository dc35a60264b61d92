//! `x[…]` and `x[…] = v`, as NumPy's: ints, slices, `...`, None; and arrays of ints or bools.

use pyo3::exceptions::{PyIndexError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyEllipsis, PyInt, PyList, PySlice, PyTuple};
use rushlight::{Arg, DType, Error, Result, Tensor};

use crate::args::Operand;
use crate::autograd;
use crate::create::from_data;
use crate::error::OrRaise;
use crate::tensor::PyTensor;

/// One part of an index.
enum Part {
    At(i64),
    /// Start, stop and step, `None` where left out.
    Slice(Option<i64>, Option<i64>, i64),
    NewDim,
    Rest,
    /// i64 indices, or a bool mask over as many dims as it has.
    Array(Tensor),
}

fn part(obj: &Bound<'_, PyAny>) -> PyResult<Part> {
    if let Ok(t) = obj.cast::<PyTensor>() {
        let t = t.get().value()?.detach();
        return match t.dtype() {
            DType::I64 | DType::Bool => Ok(Part::Array(t)),
            DType::U8 => t.to_dtype(DType::I64).or_raise().map(Part::Array),
            other => Err(PyIndexError::new_err(format!("index: a tensor of {other} is no index; use int64 or bool"))),
        };
    }
    if obj.cast::<PyBool>().is_ok() {
        return Ok(Part::Array(from_data(obj, None)?));
    }
    if obj.cast::<PyInt>().is_ok() {
        return Ok(Part::At(obj.extract()?));
    }
    if let Ok(slice) = obj.cast::<PySlice>() {
        let bound = |name: &str| -> PyResult<Option<i64>> {
            let value = slice.getattr(name)?;
            if value.is_none() {
                return Ok(None);
            }
            // Python's slices are cut, however far they reach; but they are whole numbers.
            let number = value
                .call_method0("__index__")
                .map_err(|_| PyTypeError::new_err("index: slices take whole numbers"))?;
            Ok(Some(number.extract::<i64>().unwrap_or(if number.lt(0)? { i64::MIN / 2 } else { i64::MAX / 2 })))
        };
        return Ok(Part::Slice(bound("start")?, bound("stop")?, bound("step")?.unwrap_or(1)));
    }
    if obj.is_none() {
        return Ok(Part::NewDim);
    }
    if obj.cast::<PyEllipsis>().is_ok() {
        return Ok(Part::Rest);
    }
    if obj.cast::<PyList>().is_ok() || obj.cast::<PyTuple>().is_ok() || obj.hasattr("__array_interface__")? {
        let t = from_data(obj, None)?;
        return match t.dtype() {
            DType::Bool | DType::I64 => Ok(if t.rank() == 0 && t.dtype() == DType::I64 {
                Part::At(t.item().or_raise()?)
            } else {
                Part::Array(t)
            }),
            _ if t.numel() == 0 => t.to_dtype(DType::I64).or_raise().map(Part::Array),
            DType::U8 => t.to_dtype(DType::I64).or_raise().map(Part::Array),
            other => Err(PyIndexError::new_err(format!(
                "index: an array of {other} is no index; use whole numbers or bools"
            ))),
        };
    }
    match obj.call_method0("__index__").and_then(|i| i.extract()) {
        Ok(i) => Ok(Part::At(i)),
        Err(_) => Err(PyIndexError::new_err(format!(
            "index: {} is no index; take ints, slices, `...`, None, or arrays of ints or bools",
            obj.get_type()
        ))),
    }
}

fn parts(index: &Bound<'_, PyAny>) -> PyResult<Vec<Part>> {
    match index.cast::<PyTuple>() {
        Ok(tuple) => tuple.iter().map(|o| part(&o)).collect(),
        Err(_) => Ok(vec![part(index)?]),
    }
}

/// The basic parts applied to `x`: a view. Returned with it: the arrays and the dims of the view where each starts.
fn basic(x: &Tensor, parts: &[Part]) -> Result<(Tensor, Vec<(usize, Tensor)>)> {
    let op = "index";
    let takes = |p: &Part| match p {
        Part::At(_) | Part::Slice(..) => 1,
        Part::Array(t) if t.dtype() == DType::Bool => t.rank(),
        Part::Array(_) => 1,
        Part::NewDim | Part::Rest => 0,
    };
    let taken: usize = parts.iter().map(takes).sum();
    if taken > x.rank() {
        return Err(Error::Dim { op, dim: taken as i64 - 1, shape: Box::new(x.shape().clone()) });
    }
    if parts.iter().filter(|p| matches!(p, Part::Rest)).count() > 1 {
        return Err(Error::invalid(op, "an index has one `...` at most"));
    }
    let (mut out, mut dim, mut arrays) = (x.clone(), 0usize, vec![]);
    for p in parts {
        match p {
            Part::At(i) => {
                out = out.select(dim, *i).map_err(|e| match e {
                    // The dim as the caller counts it would need the ones that went; the size says enough.
                    Error::Index { index, size, .. } => Error::Index { op, index, dim, size },
                    other => other,
                })?;
            }
            Part::Slice(start, stop, step) => {
                if !matches!((start, stop, step), (None, None, 1)) {
                    let (first, last) = if *step < 0 { (i64::MAX / 2, i64::MIN / 2) } else { (0, i64::MAX / 2) };
                    out = out.slice_step(dim, start.unwrap_or(first), stop.unwrap_or(last), *step)?;
                }
                dim += 1;
            }
            Part::NewDim => {
                out = out.unsqueeze(dim)?;
                dim += 1;
            }
            Part::Rest => dim += x.rank() - taken,
            Part::Array(t) => {
                let at = dim;
                dim += takes(p);
                if t.dtype() == DType::Bool && t.rank() == 0 {
                    // x[True] has a new dim of one place, x[False] of none.
                    out = out.unsqueeze(at)?;
                    dim += 1;
                    let one = t.item::<bool>()?;
                    arrays.push((at, Tensor::from_vec(vec![0i64; one as usize], one as usize)?));
                    continue;
                }
                arrays.push((at, t.clone()));
            }
        }
    }
    Ok((out, arrays))
}

/// The arrays as i64 indices, one for each dim they take, broadcast to one shape; masks become the places where they hold.
fn places(x: &Tensor, arrays: Vec<(usize, Tensor)>) -> Result<(Vec<usize>, Vec<Tensor>)> {
    let op = "index";
    let (mut dims, mut indices) = (vec![], vec![]);
    for (at, t) in arrays {
        if t.dtype() != DType::Bool {
            dims.push(at);
            indices.push(t);
            continue;
        }
        let part = &x.dims()[at..at + t.rank()];
        if t.dims() != part {
            let message = format!(
                "a mask of shape {} does not fit dims {part:?} of shape {} from dim {at} on",
                t.shape(),
                x.shape()
            );
            return Err(Error::Invalid { op, message });
        }
        let found = t.nonzero()?;
        for d in 0..t.rank() {
            dims.push(at + d);
            indices.push(found.select(1, d as i64)?);
        }
    }
    let mut shape = rushlight::Shape::from([]);
    for t in &indices {
        shape = shape.broadcast(t.shape(), op)?;
    }
    let indices = indices.iter().map(|t| t.expand(&shape)).collect::<Result<_>>()?;
    Ok((dims, indices))
}

/// One flat index over the dims `dims` of `x`, of the shape of the indices; an index out of range is named.
fn flat(x: &Tensor, dims: &[usize], indices: &[Tensor]) -> Result<Tensor> {
    let mut sum: Option<Tensor> = None;
    for (&d, index) in dims.iter().zip(indices) {
        let size = x.dims()[d] as i64;
        let values = index.to_vec::<i64>()?;
        if let Some(&bad) = values.iter().find(|&&i| i < -size || i >= size) {
            return Err(Error::Index { op: "index", index: bad, dim: d, size: size as usize });
        }
        let wrapped =
            Tensor::from_vec(values.iter().map(|&i| if i < 0 { i + size } else { i }).collect(), index.shape())?;
        sum = Some(match sum {
            Some(sum) => sum.mul(size)?.add(&wrapped)?,
            None => wrapped,
        });
    }
    sum.ok_or_else(|| Error::invalid("index", "no index"))
}

/// `x` with the indexed dims first and merged into one; and where in the result the dims of the indices go.
fn arranged(x: &Tensor, dims: &[usize]) -> Result<(Tensor, usize)> {
    let rest: Vec<usize> = (0..x.rank()).filter(|d| !dims.contains(d)).collect();
    let order: Vec<usize> = dims.iter().chain(&rest).copied().collect();
    let moved = x.permute(&order)?;
    let count: usize = moved.dims()[..dims.len()].iter().product();
    let shape: Vec<usize> = [count].into_iter().chain(moved.dims()[dims.len()..].iter().copied()).collect();
    // As NumPy: indices beside each other stay where they are, others come first.
    let beside = dims.windows(2).all(|w| w[1] == w[0] + 1);
    Ok((moved.reshape(shape)?, if beside { dims[0] } else { 0 }))
}

/// The elements of `x` that the arrays name, the dims of the arrays where [`arranged`] says.
fn take(x: &Tensor, arrays: Vec<(usize, Tensor)>) -> Result<Tensor> {
    let (dims, indices) = places(x, arrays)?;
    let index = flat(x, &dims, &indices)?;
    let (rows, at) = arranged(x, &dims)?;
    let picked = rows.index_select(0, &index.reshape(-1)?)?;
    let shape: Vec<usize> = index.dims().iter().chain(&rows.dims()[1..]).copied().collect();
    let out = picked.reshape(shape)?;
    if at == 0 {
        return Ok(out);
    }
    // The dims of the indices from the front to their place.
    let k = index.rank();
    let order: Vec<usize> = (k..k + at).chain(0..k).chain(k + at..out.rank()).collect();
    out.permute(&order)
}

/// Ints beside arrays are arrays too, as in NumPy.
fn normalize(parts: Vec<Part>) -> PyResult<Vec<Part>> {
    if !parts.iter().any(|p| matches!(p, Part::Array(t) if t.rank() > 0)) {
        return Ok(parts);
    }
    parts
        .into_iter()
        .map(|p| match p {
            Part::At(i) => Ok(Part::Array(Tensor::from_vec(vec![i], ()).or_raise()?)),
            p => Ok(p),
        })
        .collect()
}

#[pymethods]
impl PyTensor {
    fn __getitem__(slf: &Bound<'_, Self>, index: &Bound<'_, PyAny>) -> PyResult<PyTensor> {
        // The common case, without more ado: x[i].
        if index.is_exact_instance_of::<PyInt>() {
            let i: i64 = index.extract()?;
            return PyTensor::view_of(slf, |x| select_first(x, i));
        }
        let parts = normalize(parts(index)?)?;
        let mut arrays = vec![];
        let out = PyTensor::view_of(slf, |x| {
            let (out, found) = basic(x, &parts)?;
            arrays = found;
            Ok(out)
        })?;
        if arrays.is_empty() {
            return Ok(out);
        }
        let x = out.value()?;
        let py = slf.py();
        crate::ops::compute(py, x.numel(), move || take(&x, arrays))
    }

    fn __setitem__(slf: &Bound<'_, Self>, index: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let parts = normalize(parts(index)?)?;
        let mut arrays = vec![];
        let target = PyTensor::view_of(slf, |x| {
            let (out, found) = basic(x, &parts)?;
            arrays = found;
            Ok(out)
        })?;
        let dtype = target.value()?.dtype();
        let source = match value.extract::<Operand>() {
            Ok(v) => v.tensor(dtype).or_raise()?,
            Err(_) => from_data(value, Some(dtype))?,
        };
        if source.is_tracked() && autograd::enabled() {
            return Err(pyo3::exceptions::PyValueError::new_err(
                "assignment is not recorded: detach() the value or use no_grad(); where() and cat() are recorded",
            ));
        }
        let source = source.detach().to_dtype(dtype).or_raise()?;
        if arrays.is_empty() {
            let shape = target.value()?.shape().clone();
            return target.overwrite(&fit(&source, &shape).or_raise()?);
        }
        let x = target.value()?.detach();
        let new = py.detach(|| rushlight::no_grad(|| put(&x, arrays, &source))).or_raise()?;
        drop(x);
        target.overwrite(&new)
    }

    fn __len__(&self) -> PyResult<usize> {
        let x = self.value()?;
        x.dims().first().copied().ok_or_else(|| PyTypeError::new_err("len: a tensor of no dims has no length"))
    }

    fn __iter__(slf: &Bound<'_, Self>) -> PyResult<TensorIter> {
        let x = slf.get().value()?;
        if x.rank() == 0 {
            return Err(PyTypeError::new_err("iter: a tensor of no dims cannot be iterated over"));
        }
        Ok(TensorIter {
            tensor: slf.clone().unbind(),
            next: std::sync::atomic::AtomicUsize::new(0),
            count: x.dims()[0],
        })
    }

    fn __contains__(&self, value: Operand) -> PyResult<bool> {
        let x = self.value()?;
        x.eq(value).and_then(|e| e.any(..)?.item::<bool>()).or_raise()
    }
}

fn select_first(x: &Tensor, i: i64) -> Result<Tensor> {
    if x.rank() == 0 {
        return Err(Error::Dim { op: "index", dim: 0, shape: Box::new(x.shape().clone()) });
    }
    x.select(0, i).map_err(|e| match e {
        Error::Index { index, dim, size, .. } => Error::Index { op: "index", index, dim, size },
        other => other,
    })
}

/// `source` broadcast to `shape`; leading dims of size 1 that are too many are left out, as NumPy does.
fn fit(source: &Tensor, shape: &rushlight::Shape) -> Result<Tensor> {
    let mut s = source.clone();
    while s.rank() > shape.rank() && s.dims()[0] == 1 {
        s = s.select(0, 0)?;
    }
    if s.shape().broadcast(shape, "assign").ok().as_ref() != Some(shape) {
        return Err(Error::invalid(
            "assign",
            format!("a value of shape {} does not fit the place of shape {shape}", source.shape()),
        ));
    }
    s.expand(shape)
}

/// `x` with `source` at the arrays' places; of several to one place the last stays.
fn put(x: &Tensor, arrays: Vec<(usize, Tensor)>, source: &Tensor) -> Result<Tensor> {
    let (dims, indices) = places(x, arrays)?;
    let index = flat(x, &dims, &indices)?;
    let (rows, at) = arranged(x, &dims)?;
    let k = index.rank();
    let rest = &rows.dims()[1..];
    // The shape that x[index] has, to which the source is broadcast; then the dims of the indices come first.
    let shape: rushlight::Shape = rest[..at].iter().chain(index.dims()).chain(&rest[at..]).copied().collect();
    let source = fit(source, &shape)?;
    let order: Vec<usize> = (at..at + k).chain(0..at).chain(at + k..shape.rank()).collect();
    let flat_rest: usize = rest.iter().product();
    let n = index.numel();
    let source = source.permute(&order)?.reshape([n, flat_rest])?.contiguous()?;
    let index = index.reshape([n, 1])?.expand([n, flat_rest])?.contiguous()?;
    let new = rows.reshape([rows.dims()[0], flat_rest])?.scatter(0, &index, &source)?;
    // Back to the order of x.
    let others: Vec<usize> = (0..x.rank()).filter(|d| !dims.contains(d)).collect();
    let order: Vec<usize> = dims.iter().chain(&others).copied().collect();
    let moved: Vec<usize> = order.iter().map(|&d| x.dims()[d]).collect();
    let mut inverse = vec![0; x.rank()];
    order.iter().enumerate().for_each(|(to, &from)| inverse[from] = to);
    new.reshape(moved)?.permute(&inverse)
}

/// The tensors along the first dim.
#[pyclass(module = "rushlight", frozen)]
pub struct TensorIter {
    tensor: Py<PyTensor>,
    next: std::sync::atomic::AtomicUsize,
    count: usize,
}

#[pymethods]
impl TensorIter {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<PyTensor>> {
        let i = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if i >= self.count {
            return Ok(None);
        }
        PyTensor::view_of(self.tensor.bind(py), |x| select_first(x, i as i64)).map(Some)
    }
}
