//! Arguments: dims, sizes, numbers or tensors.

use pyo3::conversion::FromPyObjectOwned;
use pyo3::exceptions::{PyMemoryError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt, PyList, PyString, PyTuple};
use rushlight::{Arg, DType, Result, Shape, Tensor};
use smallvec::SmallVec;

use crate::error::OrRaise;
use crate::tensor::PyTensor;

/// Several whole numbers: an int or a sequence of them.
#[derive(Clone, Default, Debug)]
pub struct Ints(pub SmallVec<[i64; 6]>);

impl<'a, 'py> FromPyObject<'a, 'py> for Ints {
    type Error = PyErr;

    fn extract(obj: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(one) = obj.extract::<i64>() {
            return Ok(Ints(smallvec::smallvec![one]));
        }
        let all: SmallVec<[i64; 6]> = if let Ok(tuple) = obj.cast::<PyTuple>() {
            tuple.iter().map(|i| i.extract()).collect::<PyResult<_>>()?
        } else if let Ok(list) = obj.cast::<PyList>() {
            list.iter().map(|i| i.extract()).collect::<PyResult<_>>()?
        } else {
            return Err(PyTypeError::new_err(format!("expected an int or a tuple of ints, got {}", obj.get_type())));
        };
        Ok(Ints(all))
    }
}

impl Ints {
    /// `N` numbers; one stands for all.
    pub fn sizes<const N: usize>(&self, what: &str) -> PyResult<[usize; N]> {
        let all: SmallVec<[i64; 6]> =
            if self.0.len() == 1 { smallvec::smallvec![self.0[0]; N] } else { self.0.clone() };
        let bad = || {
            pyo3::exceptions::PyValueError::new_err(format!(
                "{what}: expected {N} sizes of at least 0, got {:?}",
                self.0
            ))
        };
        let sizes: Option<Vec<usize>> = all.iter().map(|&s| usize::try_from(s).ok()).collect();
        sizes.and_then(|s| s.try_into().ok()).ok_or_else(bad)
    }
}

/// A shape in `*args`: `(2, 3)` or `((2, 3),)`.
pub fn shape_of(args: &Bound<'_, PyTuple>) -> PyResult<SmallVec<[i64; 6]>> {
    if args.len() == 1 {
        return Ok(args.get_item(0)?.extract::<Ints>()?.0);
    }
    args.iter().map(|i| i.extract()).collect()
}

/// Dims to reduce over: `None` for all.
pub struct Over(Option<SmallVec<[i64; 6]>>);

impl Over {
    /// From an optional argument; an empty tuple means all dims, as in PyTorch.
    pub fn of(dim: Option<Ints>) -> Over {
        Over(dim.map(|d| d.0).filter(|d| !d.is_empty()))
    }
}

impl rushlight::Dims for Over {
    fn indices(&self, op: &'static str, shape: &Shape) -> Result<SmallVec<[usize; 6]>> {
        match &self.0 {
            None => Ok((0..shape.rank()).collect()),
            // A scalar has one dim to PyTorch: 0 or -1.
            Some(d) if shape.rank() == 0 && d.iter().all(|d| (-1..=0).contains(d)) => Ok(SmallVec::new()),
            Some(d) => d.as_slice().indices(op, shape),
        }
    }
}

/// A sequence. One that claims more items than memory holds is a MemoryError, before the first is asked for. Of tensors
/// those of whole numbers in one dim are sequences: one of many rows would become as many tensors.
pub struct Many<T>(pub Vec<T>);

impl<'a, 'py, T: FromPyObjectOwned<'py>> FromPyObject<'a, 'py> for Many<T> {
    type Error = PyErr;

    fn extract(obj: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        let mut all = vec![];
        if obj.cast::<PyString>().is_ok() || !obj.hasattr("__len__")? {
            return Err(PyTypeError::new_err(format!("expected a sequence, got {}", obj.get_type())));
        }
        if let Ok(t) = obj.cast::<PyTensor>() {
            let t = t.get().value()?;
            if t.rank() != 1 || t.dtype().is_float() {
                let message = format!("expected a sequence, got a tensor of {} and shape {}", t.dtype(), t.shape());
                return Err(PyTypeError::new_err(message));
            }
            let numbers = t.to_dtype(DType::I64).and_then(|t| t.to_vec::<i64>()).or_raise()?;
            reserve(&mut all, numbers.len())?;
            for number in numbers {
                all.push(PyInt::new(obj.py(), number).into_any().extract().map_err(Into::into)?);
            }
            return Ok(Many(all));
        }
        reserve(&mut all, obj.len()?)?;
        for item in obj.try_iter()? {
            all.push(item?.extract().map_err(Into::into)?);
        }
        Ok(Many(all))
    }
}

/// Room for `count` items. MemoryError: there is none.
pub fn reserve<T>(all: &mut Vec<T>, count: usize) -> PyResult<()> {
    all.try_reserve_exact(count).map_err(|_| PyMemoryError::new_err(format!("no memory for {count} items")))
}

/// A tensor or a number, as the other operand.
pub enum Operand {
    Tensor(Tensor),
    Float(f64),
    Int(i64),
    Bool(bool),
}

impl<'a, 'py> FromPyObject<'a, 'py> for Operand {
    type Error = PyErr;

    fn extract(obj: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(t) = obj.cast::<PyTensor>() {
            return Ok(Operand::Tensor(t.get().value()?));
        }
        if let Ok(f) = obj.cast::<PyFloat>() {
            return Ok(Operand::Float(f.extract()?));
        }
        if let Ok(b) = obj.cast::<PyBool>() {
            return Ok(Operand::Bool(b.is_true()));
        }
        if let Ok(i) = obj.cast::<PyInt>() {
            return Ok(Operand::Int(i.extract()?));
        }
        // NumPy's arrays and numbers.
        match crate::create::from_array(&obj, None)? {
            Some(t) if t.rank() == 0 => Operand::number(&t),
            Some(t) => Ok(Operand::Tensor(t)),
            None => Err(PyTypeError::new_err(format!("expected a tensor or a number, got {}", obj.get_type()))),
        }
    }
}

impl Operand {
    fn number(t: &Tensor) -> PyResult<Operand> {
        Ok(match t.dtype() {
            DType::Bool => Operand::Bool(t.item().or_raise()?),
            d if d.is_float() => Operand::Float(t.item().or_raise()?),
            _ => Operand::Int(t.item().or_raise()?),
        })
    }

    /// Whether it is a bool, or a tensor of them.
    pub fn is_bool(&self) -> bool {
        match self {
            Operand::Tensor(t) => t.dtype() == DType::Bool,
            Operand::Bool(_) => true,
            _ => false,
        }
    }

    /// How many elements it has.
    pub fn numel(&self) -> usize {
        match self {
            Operand::Tensor(t) => t.numel(),
            _ => 1,
        }
    }
}

impl Arg for Operand {
    #[inline]
    fn tensor(&self, dtype: DType) -> Result<Tensor> {
        match self {
            Operand::Tensor(t) => Ok(t.clone()),
            Operand::Float(x) => x.tensor(if dtype.is_float() { dtype } else { crate::dtype::default_float() }),
            Operand::Int(x) => x.tensor(dtype),
            // A bool counts as a number where it meets one.
            Operand::Bool(x) if dtype == DType::Bool => x.tensor(dtype),
            Operand::Bool(x) => (*x as i64).tensor(dtype),
        }
    }
}
