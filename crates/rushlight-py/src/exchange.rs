//! Tensors of other libraries in and out, without a copy where memory allows: `__array_interface__` (NumPy), DLPack
//! (PyTorch and others), and bytes for pickling.

use std::ffi::{CStr, c_void};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use rushlight::{DType, Element, Tensor, bf16, f16};

use crate::dtype::{AnyDType, numpy_code};
use crate::error::OrRaise;
use crate::tensor::PyTensor;

// ---- NumPy ----

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
            let message = format!("tensor: arrays of {code} are of the other byte order; use astype");
            return Err(PyTypeError::new_err(message));
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
    let t = copied(&parse(interface)?)?;
    match dtype {
        Some(dtype) => t.to_dtype(dtype).or_raise(),
        None => Ok(t),
    }
}

fn copied(array: &Array) -> PyResult<Tensor> {
    fn made<T: Element>(array: &Array, data: Vec<T>) -> PyResult<Tensor> {
        Tensor::from_vec(data, array.shape.clone()).or_raise()
    }
    match array.code.as_str() {
        "f4" => made(array, read(array, |x: f32| x)),
        "f8" => made(array, read(array, |x: f64| x)),
        "f2" => made(array, read(array, f16::from_bits)),
        "i8" => made(array, read(array, |x: i64| x)),
        "i4" => made(array, read(array, |x: i32| x as i64)),
        "i2" => made(array, read(array, |x: i16| x as i64)),
        "i1" => made(array, read(array, |x: i8| x as i64)),
        "u1" => made(array, read(array, |x: u8| x)),
        "u2" => made(array, read(array, |x: u16| x as i64)),
        "u4" => made(array, read(array, |x: u32| x as i64)),
        "b1" => made(array, read(array, |x: u8| x != 0)),
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
fn in_place(
    dtype: DType,
    start: usize,
    shape: &[usize],
    owner: Box<dyn std::any::Any + Send + Sync>,
) -> Option<Tensor> {
    // SAFETY: the owner vouches for the elements; that they stay as they are, the documentation asks of its user.
    typed!(dtype, T => unsafe { Tensor::from_foreign(start as *const T, shape.into(), owner) })
}

fn in_order(shape: &[usize], strides: Option<&[isize]>, unit: isize) -> bool {
    let mut expected = unit;
    strides.is_none_or(|strides| {
        shape.iter().zip(strides).rev().all(|(&n, &s)| {
            let fits = n == 1 || s == expected;
            expected *= n as isize;
            fits
        })
    })
}

/// A tensor over an array's memory, or of a copy where it cannot be used in place.
#[pyfunction]
fn _from_array(array: &Bound<'_, PyAny>) -> PyResult<PyTensor> {
    let interface = array.getattr_opt("__array_interface__")?;
    let interface = interface
        .ok_or_else(|| PyTypeError::new_err(format!("from_numpy: expected a NumPy array, got {}", array.get_type())))?;
    let parsed = parse(&interface.cast_into::<PyDict>()?)?;
    if let Some(dtype) = crate::dtype::from_numpy_code(&parsed.code)
        && in_order(&parsed.shape, parsed.strides.as_deref(), dtype.size() as isize)
        && let Some(t) = in_place(dtype, parsed.start, &parsed.shape, Box::new(array.clone().unbind()))
    {
        return Ok(t.into());
    }
    Ok(copied(&parsed)?.into())
}

/// Holds a tensor's elements for whoever reads its `__array_interface__`.
#[pyclass(module = "rushlight", frozen)]
struct ArrayView(Tensor);

#[pymethods]
impl ArrayView {
    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let x = &self.0;
        let code = numpy_code(x.dtype()).ok_or_else(|| PyTypeError::new_err("numpy: NumPy has no bfloat16"))?;
        let order = if cfg!(target_endian = "little") { "<" } else { ">" };
        let order = if x.dtype().size() == 1 { "|" } else { order };
        let interface = PyDict::new(py);
        interface.set_item("version", 3)?;
        interface.set_item("typestr", format!("{order}{code}"))?;
        interface.set_item("shape", PyTuple::new(py, x.dims())?)?;
        let size = x.dtype().size() as isize;
        interface.set_item("strides", PyTuple::new(py, x.strides().iter().map(|s| s * size))?)?;
        // Read only: others may hold the same elements.
        interface.set_item("data", (x.data_ptr() as usize, true))?;
        Ok(interface)
    }
}

// ---- DLPack, as its header defines it ----

#[repr(C)]
struct DlTensor {
    data: *mut c_void,
    device_type: i32,
    device_id: i32,
    ndim: i32,
    code: u8,
    bits: u8,
    lanes: u16,
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
}

#[repr(C)]
struct DlManaged {
    tensor: DlTensor,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut DlManaged)>,
}

const NAME: &CStr = c"dltensor";
const USED: &CStr = c"used_dltensor";
const CPU: i32 = 1;

/// The codes of int, unsigned, float, bfloat and bool.
fn dl_code(dtype: DType) -> u8 {
    match dtype {
        DType::I64 => 0,
        DType::U8 => 1,
        DType::F32 | DType::F64 | DType::F16 => 2,
        DType::BF16 => 4,
        DType::Bool => 6,
    }
}

/// What an exported tensor needs to live on.
struct Exported {
    managed: DlManaged,
    _value: Tensor,
    shape: Vec<i64>,
    strides: Vec<i64>,
}

unsafe extern "C" fn delete_exported(managed: *mut DlManaged) {
    if !managed.is_null() {
        // SAFETY: the context is the box that `__dlpack__` made, and DLPack's consumer calls this once.
        drop(unsafe { Box::from_raw((*managed).context.cast::<Exported>()) });
    }
}

unsafe extern "C" fn delete_capsule(capsule: *mut ffi::PyObject) {
    // SAFETY: Python calls this with the capsule; one that was taken has another name, and its taker deletes it.
    unsafe {
        if ffi::PyCapsule_IsValid(capsule, NAME.as_ptr()) == 1 {
            delete_exported(ffi::PyCapsule_GetPointer(capsule, NAME.as_ptr()).cast());
        }
    }
}

#[pymethods]
impl PyTensor {
    /// For other libraries' `from_dlpack`: the elements in place. They must not be written to.
    #[pyo3(signature = (*, stream=None, max_version=None, dl_device=None, copy=None))]
    fn __dlpack__(
        &self,
        py: Python<'_>,
        stream: Option<&Bound<'_, PyAny>>,
        max_version: Option<&Bound<'_, PyAny>>,
        dl_device: Option<&Bound<'_, PyAny>>,
        copy: Option<bool>,
    ) -> PyResult<Py<PyAny>> {
        let _ = (stream, max_version, dl_device);
        let x = self.value()?;
        if x.is_tracked() {
            return Err(PyValueError::new_err("__dlpack__: the tensor requires grad; use detach()"));
        }
        // Few readers take negative strides.
        let x = if x.strides().iter().any(|s| *s < 0) { x.contiguous().or_raise()? } else { x };
        let x = if copy == Some(true) { x.add(0i64).or_raise()? } else { x };
        let shape = x.dims().iter().map(|&n| n as i64).collect();
        let strides = x.strides().iter().map(|&n| n as i64).collect();
        let tensor = DlTensor {
            data: x.data_ptr().cast_mut().cast(),
            device_type: CPU,
            device_id: 0,
            ndim: x.rank() as i32,
            code: dl_code(x.dtype()),
            bits: 8 * x.dtype().size() as u8,
            lanes: 1,
            shape: std::ptr::null_mut(),
            strides: std::ptr::null_mut(),
            byte_offset: 0,
        };
        let managed = DlManaged { tensor, context: std::ptr::null_mut(), deleter: Some(delete_exported) };
        let exported = Box::into_raw(Box::new(Exported { managed, _value: x, shape, strides }));
        // SAFETY: the box is alive until `delete_exported`; its parts do not move.
        let capsule = unsafe {
            (*exported).managed.tensor.shape = (*exported).shape.as_mut_ptr();
            (*exported).managed.tensor.strides = (*exported).strides.as_mut_ptr();
            (*exported).managed.context = exported.cast();
            ffi::PyCapsule_New((&raw mut (*exported).managed).cast(), NAME.as_ptr(), Some(delete_capsule))
        };
        if capsule.is_null() {
            // SAFETY: as above; nobody else has it.
            drop(unsafe { Box::from_raw(exported) });
            return Err(PyErr::fetch(py));
        }
        // SAFETY: a new reference.
        Ok(unsafe { Bound::from_owned_ptr(py, capsule) }.unbind())
    }

    /// The CPU, as DLPack names it.
    fn __dlpack_device__(&self) -> (i32, i32) {
        (CPU, 0)
    }

    /// What NumPy reads.
    fn _array(&self) -> PyResult<ArrayView> {
        Ok(ArrayView(self.value()?.detach()))
    }

    /// The elements as bytes, for pickling.
    fn _to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let x = self.value()?.detach().contiguous().or_raise()?;
        let len = x.numel() * x.dtype().size();
        if len == 0 {
            return Ok(PyBytes::new(py, &[]));
        }
        // SAFETY: a contiguous tensor has that many bytes there, and they do not change while it lives.
        Ok(PyBytes::new(py, unsafe { std::slice::from_raw_parts(x.data_ptr(), len) }))
    }
}

/// A tensor of what `_to_bytes` gave.
#[pyfunction]
fn _from_bytes(data: &[u8], dtype: AnyDType, shape: Vec<usize>) -> PyResult<PyTensor> {
    let size = dtype.0.size();
    let count = shape.iter().try_fold(1usize, |a, &b| a.checked_mul(b));
    if count.and_then(|n| n.checked_mul(size)) != Some(data.len()) {
        return Err(PyValueError::new_err(format!("{} bytes do not fill shape {shape:?}", data.len())));
    }
    let strides = None;
    let code = match dtype.0 {
        DType::BF16 => "u2",
        other => numpy_code(other).unwrap_or(""),
    };
    let array = Array { start: data.as_ptr() as usize, code: code.to_string(), shape, strides };
    if dtype.0 == DType::BF16 {
        return Ok(Tensor::from_vec(read(&array, bf16::from_bits), array.shape).or_raise()?.into());
    }
    Ok(copied(&array)?.into())
}

/// Calls the producer's deleter when the last tensor over its memory is gone.
struct Imported(*mut DlManaged);

// SAFETY: the pointer is used once, by `drop`; DLPack's deleters may be called from any thread.
unsafe impl Send for Imported {}
// SAFETY: as above; nothing is read through it.
unsafe impl Sync for Imported {}

impl Drop for Imported {
    fn drop(&mut self) {
        // Deleters of other libraries' Python objects expect the GIL.
        Python::attach(|_| {
            // SAFETY: taken from a capsule that was renamed, so this is the only deletion.
            unsafe {
                if let Some(delete) = (*self.0).deleter {
                    delete(self.0);
                }
            }
        });
    }
}

/// A tensor over the memory of another library's.
#[pyfunction]
fn _from_dlpack(py: Python<'_>, source: &Bound<'_, PyAny>) -> PyResult<PyTensor> {
    let capsule = if source.hasattr("__dlpack__")? {
        let (device, _): (i32, i32) = source.call_method0("__dlpack_device__")?.extract()?;
        if device != CPU {
            return Err(PyValueError::new_err("from_dlpack: the tensor is not in the CPU's memory"));
        }
        source.call_method0("__dlpack__")?
    } else {
        source.clone()
    };
    // SAFETY: PyCapsule functions check what they are given and set an exception.
    let managed = unsafe { ffi::PyCapsule_GetPointer(capsule.as_ptr(), NAME.as_ptr()) }.cast::<DlManaged>();
    if managed.is_null() {
        return Err(PyErr::fetch(py));
    }
    // SAFETY: the capsule of this name holds a managed tensor, alive until its deleter is called.
    let t = unsafe { &(*managed).tensor };
    let dtype = match (t.code, t.bits, t.lanes) {
        (2, 32, 1) => DType::F32,
        (2, 64, 1) => DType::F64,
        (2, 16, 1) => DType::F16,
        (4, 16, 1) => DType::BF16,
        (0, 64, 1) => DType::I64,
        (1, 8, 1) => DType::U8,
        (6, 8, 1) => DType::Bool,
        (code, bits, _) => {
            return Err(PyTypeError::new_err(format!("from_dlpack: no dtype of code {code} with {bits} bits")));
        }
    };
    let rank = usize::try_from(t.ndim).unwrap_or(0);
    let numbers = |p: *const i64| -> Vec<i64> {
        // SAFETY: DLPack: `ndim` numbers where the pointer is not null.
        if p.is_null() { vec![] } else { unsafe { std::slice::from_raw_parts(p, rank) }.to_vec() }
    };
    let shape: Vec<usize> = numbers(t.shape).iter().map(|&n| n as usize).collect();
    let strides: Vec<isize> = numbers(t.strides).iter().map(|&n| n as isize).collect();
    let start = t.data as usize + t.byte_offset as usize;
    // SAFETY: a valid capsule; from here on it is ours to delete.
    if unsafe { ffi::PyCapsule_SetName(capsule.as_ptr(), USED.as_ptr()) } != 0 {
        return Err(PyErr::fetch(py));
    }
    let owner = Imported(managed);
    let strides = if strides.is_empty() { None } else { Some(strides) };
    if dtype != DType::Bool
        && in_order(&shape, strides.as_deref(), 1)
        && start.is_multiple_of(dtype.size())
        && start != 0
    {
        if let Some(t) = in_place(dtype, start, &shape, Box::new(owner)) {
            return Ok(t.into());
        }
        return Err(PyValueError::new_err("from_dlpack: the elements cannot be used in place; copy the tensor first"));
    }
    let size = dtype.size() as isize;
    let strides = strides.map(|s| s.iter().map(|s| s * size).collect());
    let code = numpy_code(dtype).unwrap_or("u2").to_string();
    let array = Array { start, code, shape, strides };
    let out = match dtype {
        DType::BF16 => Tensor::from_vec(read(&array, bf16::from_bits), array.shape.clone()).or_raise()?,
        _ => copied(&array)?,
    };
    drop(owner);
    Ok(out.into())
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<ArrayView>()?;
    m.add_function(wrap_pyfunction!(_from_array, m)?)?;
    m.add_function(wrap_pyfunction!(_from_bytes, m)?)?;
    m.add_function(wrap_pyfunction!(_from_dlpack, m)?)
}
