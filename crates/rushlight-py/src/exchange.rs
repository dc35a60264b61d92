//! NumPy arrays in and out: `__array_interface__` both ways.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rushlight::{DType, Element, Tensor, f16};

use crate::error::OrRaise;

/// The parts of an `__array_interface__`.
struct Array {
    start: usize,
    code: String,
    shape: Vec<usize>,
    /// In bytes.
    strides: Option<Vec<isize>>,
}

fn parse(interface: &Bound<'_, PyDict>) -> PyResult<Array> {
    let item = |key: &str| {
        interface.get_item(key)?.ok_or_else(|| PyValueError::new_err(format!("the array's interface has no {key}")))
    };
    let code: String = item("typestr")?.extract()?;
    let native = if cfg!(target_endian = "little") { ['<', '|', '='] } else { ['>', '|', '='] };
    let code = match code.strip_prefix(native) {
        Some(code) => code.to_string(),
        None => {
            return Err(PyTypeError::new_err(format!(
                "tensor: arrays of {code} are of the other byte order; use astype"
            )));
        }
    };
    let strides = match interface.get_item("strides")? {
        Some(s) if !s.is_none() => Some(s.extract()?),
        _ => None,
    };
    let (start, _): (usize, bool) = item("data")?.extract()?;
    Ok(Array { start, code, shape: item("shape")?.extract()?, strides })
}

/// The elements of an array of `T`, in row-major order, converted by `f`.
fn read<T: Copy, U>(array: &Array, f: impl Fn(T) -> U) -> Vec<U> {
    let count: usize = array.shape.iter().product();
    let mut out = Vec::with_capacity(count);
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
    out
}

/// A copy of an array, of `dtype` or the array's own.
pub fn copy_array(interface: &Bound<'_, PyDict>, dtype: Option<DType>) -> PyResult<Tensor> {
    let array = parse(interface)?;
    fn made<T: Element>(array: &Array, data: Vec<T>) -> PyResult<Tensor> {
        Tensor::from_vec(data, array.shape.clone()).or_raise()
    }
    let t = match array.code.as_str() {
        "f4" => made(&array, read(&array, |x: f32| x))?,
        "f8" => made(&array, read(&array, |x: f64| x))?,
        "f2" => made(&array, read(&array, |x: u16| f16::from_bits(x)))?,
        "i8" => made(&array, read(&array, |x: i64| x))?,
        "i4" => made(&array, read(&array, |x: i32| x as i64))?,
        "i2" => made(&array, read(&array, |x: i16| x as i64))?,
        "i1" => made(&array, read(&array, |x: i8| x as i64))?,
        "u1" => made(&array, read(&array, |x: u8| x))?,
        "u2" => made(&array, read(&array, |x: u16| x as i64))?,
        "u4" => made(&array, read(&array, |x: u32| x as i64))?,
        "b1" => made(&array, read(&array, |x: u8| x != 0))?,
        other => {
            return Err(PyTypeError::new_err(format!(
                "tensor: arrays of NumPy's {other} are not supported; use astype"
            )));
        }
    };
    match dtype {
        Some(dtype) => t.to_dtype(dtype).or_raise(),
        None => Ok(t),
    }
}
