//! Making tensors: from Python's lists, from other libraries' arrays, filled, counted up, random.

use pyo3::exceptions::{PyMemoryError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyComplex, PyDict, PyFloat, PyInt, PyList, PyTuple};
use rushlight::{DType, Element, Tensor, bf16, f16};

use crate::args::{Many, reserve, shape_of};
use crate::dtype::{AnyDType, default_float};
use crate::error::OrRaise;
use crate::ops::detached;
use crate::tensor::PyTensor;

/// Lists nested deeper than this are refused, before they exhaust the stack.
const DEEPEST: usize = 64;

/// What nested lists hold: their shape and numbers, and the widest kind met (0 bool, 1 int, 2 float).
#[derive(Default)]
struct Nested {
    shape: Vec<usize>,
    floats: Vec<f64>,
    ints: Vec<i64>,
    kind: u8,
    tensors: Vec<Tensor>,
}

impl Nested {
    fn ragged() -> PyErr {
        PyValueError::new_err("tensor: rows of different lengths cannot form a tensor")
    }

    fn collect(&mut self, obj: &Bound<'_, PyAny>, depth: usize) -> PyResult<()> {
        let leaf = |nested: &Nested| if nested.shape.len() == depth { Ok(()) } else { Err(Nested::ragged()) };
        let number = |nested: &mut Nested, kind: u8, int: i64, float: f64| {
            nested.kind = nested.kind.max(kind);
            nested.ints.push(int);
            nested.floats.push(float);
        };
        if let Ok(f) = obj.cast::<PyFloat>() {
            leaf(self)?;
            let f: f64 = f.extract()?;
            number(self, 2, f as i64, f);
        } else if let Ok(b) = obj.cast::<PyBool>() {
            leaf(self)?;
            number(self, 0, b.is_true() as i64, b.is_true() as u8 as f64);
        } else if let Ok(i) = obj.cast::<PyInt>() {
            leaf(self)?;
            let i: i64 = i.extract().map_err(|_| PyValueError::new_err(format!("tensor: {i} does not fit 64 bits")))?;
            number(self, 1, i, i as f64);
        } else if obj.cast::<PyList>().is_ok() || obj.cast::<PyTuple>().is_ok() {
            if depth >= DEEPEST {
                return Err(PyValueError::new_err(format!("tensor: lists nested more than {DEEPEST} deep")));
            }
            let n = obj.len()?;
            if self.shape.len() == depth {
                if !self.floats.is_empty() {
                    return Err(Nested::ragged());
                }
                self.shape.push(n);
            }
            if self.shape[depth] != n {
                return Err(Nested::ragged());
            }
            for item in obj.try_iter()? {
                self.collect(&item?, depth + 1)?;
            }
        } else if let Some(t) = any_tensor(&obj.as_borrowed())? {
            // A list of tensors or arrays: as if they were lists.
            let list = to_list(obj.py(), &t)?;
            self.kind = self.kind.max(if t.dtype().is_float() { 2 } else { (t.dtype() != DType::Bool) as u8 });
            self.tensors.push(t);
            return self.collect(list.bind(obj.py()), depth);
        } else if obj.cast::<PyComplex>().is_ok() {
            return Err(PyTypeError::new_err("tensor: complex numbers are not supported"));
        } else if let Ok(f) = obj.extract::<f64>() {
            leaf(self)?;
            number(self, 2, f as i64, f);
        } else {
            return Err(PyTypeError::new_err(format!("tensor: cannot make a tensor of {}", obj.get_type())));
        }
        Ok(())
    }
}

fn any_tensor(obj: &Borrowed<'_, '_, PyAny>) -> PyResult<Option<Tensor>> {
    match obj.cast::<PyTensor>() {
        Ok(t) => Ok(Some(t.get().value()?)),
        Err(_) => from_array(obj, None),
    }
}

/// A tensor of nested lists, tensors or arrays, copied.
pub fn from_data(data: &Bound<'_, PyAny>, dtype: Option<DType>) -> PyResult<Tensor> {
    if let Some(t) = any_tensor(&data.as_borrowed())? {
        let t = t.detach();
        return t.to_dtype(dtype.unwrap_or(t.dtype())).or_raise();
    }
    let mut nested = Nested::default();
    if data.cast::<PyList>().is_err()
        && data.cast::<PyTuple>().is_err()
        && data.hasattr("__len__")?
        && data.hasattr("__getitem__")?
    {
        // Any other sequence, a range or an array.array.
        let list = PyList::new(data.py(), data.extract::<Many<Bound<'_, PyAny>>>()?.0)?;
        nested.collect(list.as_any(), 0)?;
    } else {
        nested.collect(data, 0)?;
    }
    let inferred = match nested.kind {
        _ if nested.floats.is_empty() => default_float(),
        0 => DType::Bool,
        1 => DType::I64,
        _ => nested
            .tensors
            .iter()
            .map(|t| t.dtype())
            .filter(|d| d.is_float())
            .reduce(DType::promote)
            .unwrap_or_else(default_float),
    };
    let dtype = dtype.unwrap_or(inferred);
    let shape = nested.shape;
    if !dtype.is_float() && nested.kind < 2 {
        return Tensor::from_vec(nested.ints, shape).and_then(|t| t.to_dtype(dtype)).or_raise();
    }
    if dtype == DType::F32 {
        let floats = nested.floats.iter().map(|&x| x as f32).collect();
        return Tensor::from_vec::<f32>(floats, shape).or_raise();
    }
    Tensor::from_vec(nested.floats, shape).and_then(|t| t.to_dtype(dtype)).or_raise()
}

/// A tensor of what has an `__array_interface__` (NumPy's arrays and numbers), copied; `None` if it has none.
pub fn from_array(obj: &Borrowed<'_, '_, PyAny>, dtype: Option<DType>) -> PyResult<Option<Tensor>> {
    let Some(interface) = obj.getattr_opt("__array_interface__")? else { return Ok(None) };
    let interface = interface.cast_into::<PyDict>()?;
    crate::exchange::copy_array(&interface, dtype).map(Some)
}

fn pieces<T: Element, O: for<'py> IntoPyObject<'py>>(
    py: Python<'_>,
    x: &Tensor,
    f: impl Fn(T) -> O,
) -> PyResult<Py<PyAny>> {
    let data = x.to_vec::<T>().or_raise()?;
    let mut items: Vec<Py<PyAny>> = vec![];
    reserve(&mut items, data.len())?;
    for v in data {
        items.push(f(v).into_py_any(py)?);
    }
    for &n in x.dims().iter().rev() {
        if n == 0 {
            // Sizes before an empty dim still count.
            let outer: usize = x.dims().iter().take_while(|&&d| d != 0).product();
            reserve(&mut items, outer)?;
            items.extend((0..outer).map(|_| PyList::empty(py).into_any().unbind()));
            for &n in x.dims().iter().take_while(|&&d| d != 0).collect::<Vec<_>>().into_iter().rev() {
                items = items
                    .chunks(n)
                    .map(|c| Ok(PyList::new(py, c.iter().map(|i| i.clone_ref(py)))?.into_any().unbind()))
                    .collect::<PyResult<_>>()?;
            }
            break;
        }
        items = items
            .chunks(n)
            .map(|c| Ok(PyList::new(py, c.iter().map(|i| i.clone_ref(py)))?.into_any().unbind()))
            .collect::<PyResult<_>>()?;
    }
    items.into_iter().next().ok_or_else(|| PyValueError::new_err("tolist: internal: no list"))
}

/// As Python's numbers, in lists nested as deep as the tensor has dims. MemoryError: there is no room for so many.
pub fn to_list(py: Python<'_>, x: &Tensor) -> PyResult<Py<PyAny>> {
    // pyo3 panics where Python cannot make a number or a list.
    let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| lists(py, x)));
    made.unwrap_or_else(|_| {
        let refused = || PyMemoryError::new_err(format!("tolist: no memory for {} numbers", x.numel()));
        Err(PyErr::take(py).unwrap_or_else(refused))
    })
}

fn lists(py: Python<'_>, x: &Tensor) -> PyResult<Py<PyAny>> {
    match x.dtype() {
        DType::F32 => pieces(py, x, |v: f32| v as f64),
        DType::F64 => pieces(py, x, |v: f64| v),
        DType::BF16 => pieces(py, x, |v: bf16| v.to_f64()),
        DType::F16 => pieces(py, x, |v: f16| v.to_f64()),
        DType::I64 => pieces(py, x, |v: i64| v),
        DType::U8 => pieces(py, x, |v: u8| v),
        DType::Bool => pieces(py, x, |v: bool| v),
    }
}

use pyo3::IntoPyObjectExt;

/// `value` as a new tensor, a leaf if asked for.
pub fn finish(value: Tensor, requires_grad: bool) -> PyResult<PyTensor> {
    if requires_grad { PyTensor::new_leaf(&value) } else { Ok(PyTensor::from(value)) }
}

/// A tensor of a number, nested lists, an array or another tensor, copied.
#[pyfunction]
#[pyo3(signature = (data, *, dtype=None, requires_grad=false))]
fn tensor(data: &Bound<'_, PyAny>, dtype: Option<AnyDType>, requires_grad: bool) -> PyResult<PyTensor> {
    finish(from_data(data, dtype.map(|d| d.0))?, requires_grad)
}

macro_rules! filled {
    ($($(#[$doc:meta])* $name:ident = |$shape:ident, $dtype:ident| $body:expr;)*) => {$(
        $(#[$doc])*
        #[pyfunction]
        #[pyo3(signature = (*size, dtype=None, requires_grad=false))]
        fn $name(py: Python<'_>, size: &Bound<'_, PyTuple>, dtype: Option<AnyDType>, requires_grad: bool) -> PyResult<PyTensor> {
            let $shape = shape_of(size)?;
            let $dtype = dtype.map_or_else(default_float, |d| d.0);
            finish(detached(py, || $body)?, requires_grad)
        }
    )*};
}

filled! {
    /// Filled with 0.
    zeros = |shape, dtype| Tensor::zeros(shape.as_slice(), dtype);
    /// Filled with 1.
    ones = |shape, dtype| Tensor::ones(shape.as_slice(), dtype);
    /// Of any values: here 0.
    empty = |shape, dtype| Tensor::zeros(shape.as_slice(), dtype);
    /// Uniform in [0, 1).
    rand = |shape, dtype| Tensor::rand(shape.as_slice(), dtype);
    /// Normal with mean 0 and variance 1.
    randn = |shape, dtype| Tensor::randn(shape.as_slice(), dtype);
}

macro_rules! alike {
    ($($(#[$doc:meta])* $name:ident = |$x:ident| $body:expr;)*) => {$(
        $(#[$doc])*
        #[pyfunction]
        #[pyo3(signature = (input, *, dtype=None, requires_grad=false))]
        fn $name(py: Python<'_>, input: &Bound<'_, PyTensor>, dtype: Option<AnyDType>, requires_grad: bool) -> PyResult<PyTensor> {
            let value = input.get().value()?;
            let dtype = dtype.map_or(value.dtype(), |d| d.0);
            // Shape and dtype, without the elements.
            let $x = (value.shape(), dtype);
            finish(detached(py, || $body)?, requires_grad)
        }
    )*};
}

alike! {
    /// Shape and dtype of `input`, filled with 0.
    zeros_like = |x| Tensor::zeros(x.0, x.1);
    /// Shape and dtype of `input`, filled with 1.
    ones_like = |x| Tensor::ones(x.0, x.1);
    /// Shape and dtype of `input`, of any values: here 0.
    empty_like = |x| Tensor::zeros(x.0, x.1);
    /// Shape and dtype of `input`, uniform in [0, 1).
    rand_like = |x| Tensor::rand(x.0, x.1);
    /// Shape and dtype of `input`, normal.
    randn_like = |x| Tensor::randn(x.0, x.1);
}

/// Filled with `fill_value`.
#[pyfunction]
#[pyo3(signature = (size, fill_value, *, dtype=None, requires_grad=false))]
fn full(
    py: Python<'_>,
    size: crate::args::Ints,
    fill_value: crate::args::Operand,
    dtype: Option<AnyDType>,
    requires_grad: bool,
) -> PyResult<PyTensor> {
    let one = rushlight::Arg::tensor(&fill_value, DType::Bool).or_raise()?;
    let dtype = dtype.map_or(one.dtype(), |d| d.0);
    let value = detached(py, || one.to_dtype(dtype)?.expand(size.0.as_slice())?.contiguous())?;
    finish(value, requires_grad)
}

/// Shape and dtype of `input`, filled with `fill_value`.
#[pyfunction]
#[pyo3(signature = (input, fill_value, *, dtype=None, requires_grad=false))]
fn full_like(
    py: Python<'_>,
    input: &Bound<'_, PyTensor>,
    fill_value: f64,
    dtype: Option<AnyDType>,
    requires_grad: bool,
) -> PyResult<PyTensor> {
    let value = input.get().value()?;
    let dtype = dtype.map_or(value.dtype(), |d| d.0);
    finish(detached(py, || Tensor::full(value.shape(), fill_value, dtype))?, requires_grad)
}

/// `start, start + step, …` below `end`; of whole numbers int64.
#[pyfunction]
#[pyo3(signature = (start, end=None, step=None, *, dtype=None, requires_grad=false))]
fn arange(
    py: Python<'_>,
    start: &Bound<'_, PyAny>,
    end: Option<&Bound<'_, PyAny>>,
    step: Option<&Bound<'_, PyAny>>,
    dtype: Option<AnyDType>,
    requires_grad: bool,
) -> PyResult<PyTensor> {
    let whole = [Some(start), end, step].into_iter().flatten().all(|x| x.cast::<PyInt>().is_ok());
    let (start, end) = match end {
        Some(end) => (start.extract::<f64>()?, end.extract::<f64>()?),
        None => (0.0, start.extract::<f64>()?),
    };
    let step = step.map_or(Ok(1.0), |s| s.extract::<f64>())?;
    let dtype = dtype.map_or_else(|| if whole { DType::I64 } else { default_float() }, |d| d.0);
    finish(detached(py, || Tensor::arange(start, end, step, dtype))?, requires_grad)
}

/// `steps` numbers evenly from `start` to `end`, both included.
#[pyfunction]
#[pyo3(signature = (start, end, steps, *, dtype=None, requires_grad=false))]
fn linspace(
    py: Python<'_>,
    start: f64,
    end: f64,
    steps: usize,
    dtype: Option<AnyDType>,
    requires_grad: bool,
) -> PyResult<PyTensor> {
    let dtype = dtype.map_or_else(default_float, |d| d.0);
    finish(detached(py, || Tensor::linspace(start, end, steps, dtype))?, requires_grad)
}

/// The identity matrix, or its first `m` columns.
#[pyfunction]
#[pyo3(signature = (n, m=None, *, dtype=None, requires_grad=false))]
fn eye(py: Python<'_>, n: usize, m: Option<usize>, dtype: Option<AnyDType>, requires_grad: bool) -> PyResult<PyTensor> {
    let m = m.unwrap_or(n);
    let dtype = dtype.map_or_else(default_float, |d| d.0);
    let value = detached(py, || Tensor::eye(n.max(m), dtype)?.narrow(0, 0, n)?.narrow(1, 0, m)?.contiguous())?;
    finish(value, requires_grad)
}

/// Whole numbers uniform in [low, high): `randint(high, size)` or `randint(low, high, size)`.
#[pyfunction]
#[pyo3(signature = (low, high=None, size=None, *, dtype=None))]
fn randint(
    py: Python<'_>,
    low: i64,
    high: Option<&Bound<'_, PyAny>>,
    size: Option<crate::args::Ints>,
    dtype: Option<AnyDType>,
) -> PyResult<PyTensor> {
    let (low, high, size) = match (high, size) {
        (Some(high), Some(size)) => (low, high.extract::<i64>()?, size),
        (Some(size), None) => (0, low, size.extract()?),
        (None, Some(size)) => (0, low, size),
        (None, None) => return Err(PyTypeError::new_err("randint: give the size")),
    };
    let dtype = dtype.map_or(DType::I64, |d| d.0);
    finish(detached(py, || Tensor::randint(low, high, size.0.as_slice())?.to_dtype(dtype))?, false)
}

/// A random order of `0..n`.
#[pyfunction]
fn randperm(py: Python<'_>, n: usize) -> PyResult<PyTensor> {
    Ok(detached(py, || Tensor::randperm(n))?.into())
}

/// Normal with this mean and standard deviation.
#[pyfunction]
#[pyo3(signature = (mean=0.0, std=1.0, size=None, *, dtype=None))]
fn normal(
    py: Python<'_>,
    mean: f64,
    std: f64,
    size: Option<crate::args::Ints>,
    dtype: Option<AnyDType>,
) -> PyResult<PyTensor> {
    let (size, dtype) = (size.unwrap_or_default(), dtype.map_or_else(default_float, |d| d.0));
    Ok(detached(py, || Tensor::normal(size.0.as_slice(), mean, std, dtype))?.into())
}

/// 1 with the probability that stands in each place.
#[pyfunction]
fn bernoulli(py: Python<'_>, input: &Bound<'_, PyTensor>) -> PyResult<PyTensor> {
    let p = input.get().value()?.detach();
    Ok(detached(py, || p.rand_like()?.lt(&p)?.to_dtype(p.dtype()))?.into())
}

/// Starts the generator of this thread anew.
#[pyfunction]
fn manual_seed(seed: u64) {
    rushlight::random::manual_seed(seed);
}

/// How many threads compute.
#[pyfunction]
fn get_num_threads() -> usize {
    rushlight::num_threads()
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    macro_rules! add {
        ($($name:ident),*) => { $(m.add_function(wrap_pyfunction!($name, m)?)?;)* };
    }
    add!(
        tensor,
        zeros,
        ones,
        empty,
        rand,
        randn,
        zeros_like,
        ones_like,
        empty_like,
        rand_like,
        randn_like,
        full,
        full_like,
        arange,
        linspace,
        eye,
        randint,
        randperm,
        normal,
        bernoulli,
        manual_seed,
        get_num_threads
    );
    Ok(())
}
