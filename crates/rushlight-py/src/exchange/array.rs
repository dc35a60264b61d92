//! Elements that lie in memory of others: what describes them, read in order or used in place.

use pyo3::exceptions::{PyMemoryError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rushlight::{DType, Element, Tensor, bf16, f16};

use crate::error::OrRaise;

/// The parts of an `__array_interface__`.
pub struct Array {
    pub start: usize,
    pub code: String,
    pub shape: Vec<usize>,
    /// In bytes.
    pub strides: Option<Vec<isize>>,
}

pub fn parse(interface: &Bound<'_, PyDict>) -> PyResult<Array> {
    let item = |key: &str| {
        interface.get_item(key)?.ok_or_else(|| PyValueError::new_err(format!("the array's interface has no {key}")))
    };
    let code: String = item("typestr")?.extract()?;
    let native = if cfg!(target_endian = "little") { ['<', '|', '='] } else { ['>', '|', '='] };
    let code = match code.strip_prefix(native) {
        Some(code) => code.to_string(),
        None => {
            let message = format!("tensor: arrays of {code} are of the other byte order; use astype");
            return Err(PyTypeError::new_err(message));
        }
    };
    let strides = match interface.get_item("strides")? {
        Some(s) if !s.is_none() => Some(s.extract()?),
        _ => None,
    };
    let (start, _): (usize, bool) = item("data")?.extract()?;
    let shape: Vec<usize> = item("shape")?.extract()?;
    if strides.as_ref().is_some_and(|s: &Vec<isize>| s.len() != shape.len()) {
        return Err(PyValueError::new_err(format!(
            "the array's interface has shape {shape:?}, but strides {strides:?}"
        )));
    }
    if start == 0 && !shape.contains(&0) {
        return Err(PyValueError::new_err("the array's interface says that its elements are at address 0"));
    }
    Ok(Array { start, code, shape, strides })
}

/// The elements of an array of `T`, in row-major order, converted by `f`. A broadcast array may have more than memory holds.
pub fn read<T: Copy, U>(array: &Array, f: impl Fn(T) -> U) -> PyResult<Vec<U>> {
    let shape = &array.shape;
    let count = if shape.contains(&0) { Some(0) } else { shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) };
    let count = count.ok_or_else(|| PyValueError::new_err(format!("an array of shape {shape:?} is too large")))?;
    let mut out = Vec::new();
    out.try_reserve_exact(count)
        .map_err(|_| PyMemoryError::new_err(format!("no memory for a copy of an array of shape {shape:?}")))?;
    let size = size_of::<T>() as isize;
    let rank = array.shape.len();
    let strides = array.strides.clone().unwrap_or_else(|| {
        let mut strides = vec![size; rank];
        (0..rank.saturating_sub(1)).rev().for_each(|d| strides[d] = strides[d + 1] * array.shape[d + 1] as isize);
        strides
    });
    let mut index = vec![0usize; rank];
    for _ in 0..count {
        let place: isize = index.iter().zip(&strides).map(|(&i, &s)| i as isize * s).sum();
        // SAFETY: the array's owner vouches for every place that shape and strides reach, and is alive during the call;
        // T is a plain number of the array's size. NumPy allows any alignment.
        out.push(f(unsafe { ((array.start as isize + place) as *const T).read_unaligned() }));
        for d in (0..rank).rev() {
            index[d] += 1;
            if index[d] < array.shape[d] {
                break;
            }
            index[d] = 0;
        }
    }
    Ok(out)
}

/// A copy of an array, of `dtype` or the array's own.
pub fn copy_array(interface: &Bound<'_, PyDict>, dtype: Option<DType>) -> PyResult<Tensor> {
    let t = copied(&parse(interface)?)?;
    match dtype {
        Some(dtype) => t.to_dtype(dtype).or_raise(),
        None => Ok(t),
    }
}

pub fn copied(array: &Array) -> PyResult<Tensor> {
    fn made<T: Element>(array: &Array, data: Vec<T>) -> PyResult<Tensor> {
        Tensor::from_vec(data, array.shape.clone()).or_raise()
    }
    match array.code.as_str() {
        "f4" => made(array, read(array, |x: f32| x)?),
        "f8" => made(array, read(array, |x: f64| x)?),
        "f2" => made(array, read(array, f16::from_bits)?),
        "i8" => made(array, read(array, |x: i64| x)?),
        "i4" => made(array, read(array, |x: i32| x as i64)?),
        "i2" => made(array, read(array, |x: i16| x as i64)?),
        "i1" => made(array, read(array, |x: i8| x as i64)?),
        "u1" => made(array, read(array, |x: u8| x)?),
        "u2" => made(array, read(array, |x: u16| x as i64)?),
        "u4" => made(array, read(array, |x: u32| x as i64)?),
        "b1" => made(array, read(array, |x: u8| x != 0)?),
        other => Err(PyTypeError::new_err(format!("tensor: arrays of NumPy's {other} are not supported; use astype"))),
    }
}

/// `body` for the Rust type of a dtype.
macro_rules! typed {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            DType::F32 => {
                type $T = f32;
                $body
            }
            DType::F64 => {
                type $T = f64;
                $body
            }
            DType::BF16 => {
                type $T = bf16;
                $body
            }
            DType::F16 => {
                type $T = f16;
                $body
            }
            DType::I64 => {
                type $T = i64;
                $body
            }
            DType::U8 => {
                type $T = u8;
                $body
            }
            DType::Bool => {
                type $T = bool;
                $body
            }
        }
    };
}

/// Elements at `start` that `owner` keeps alive, in place where the library can use them there.
pub fn in_place(
    dtype: DType,
    start: usize,
    shape: &[usize],
    owner: Box<dyn std::any::Any + Send + Sync>,
) -> Option<Tensor> {
    // SAFETY: the owner vouches for the elements; that they stay as they are, the documentation asks of its user.
    typed!(dtype, T => unsafe { Tensor::from_foreign(start as *const T, shape.into(), owner) })
}

pub fn in_order(shape: &[usize], strides: Option<&[isize]>, unit: isize) -> bool {
    let mut expected = unit;
    strides.is_none_or(|strides| {
        shape.iter().zip(strides).rev().all(|(&n, &s)| {
            let fits = n == 1 || s == expected;
            expected = expected.wrapping_mul(n as isize);
            fits
        })
    })
}
