//! DLPack, as its header defines it: PyTorch's and others' tensors in and out.

use std::ffi::{CStr, c_void};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use rushlight::{DType, Tensor, bf16};

use super::array::{Array, copied, in_order, in_place, read};
use crate::dtype::numpy_code;
use crate::error::OrRaise;
use crate::tensor::PyTensor;

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
        DType::BF16 => Tensor::from_vec(read(&array, bf16::from_bits)?, array.shape.clone()).or_raise()?,
        _ => copied(&array)?,
    };
    drop(owner);
    Ok(out.into())
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(_from_dlpack, m)?)
}
