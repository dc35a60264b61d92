//! Python's buffer protocol: `memoryview(t)` and what else reads elements in place, without NumPy. The stable interface
//! has it from Python 3.11 on.

use std::ffi::{CStr, c_int, c_long};

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use rushlight::{DType, Tensor};

use crate::tensor::PyTensor;

/// What an exported buffer needs to live on.
struct Exported {
    _value: Tensor,
    shape: Vec<isize>,
    /// In bytes.
    strides: Vec<isize>,
}

/// An element as the module `struct` names it.
fn format(dtype: DType) -> PyResult<&'static CStr> {
    Ok(match dtype {
        DType::F32 => c"f",
        DType::F64 => c"d",
        DType::F16 => c"e",
        // The name that NumPy gives its int64 too.
        DType::I64 => {
            if size_of::<c_long>() == 8 {
                c"l"
            } else {
                c"q"
            }
        }
        DType::U8 => c"B",
        DType::Bool => c"?",
        DType::BF16 => return Err(PyBufferError::new_err("buffer: there is no format for bfloat16; use float()")),
    })
}

/// Whether the elements lie one after the other with the first dim as the fastest.
fn is_fortran(x: &Tensor) -> bool {
    let mut step = 1;
    x.numel() == 0
        || x.dims().iter().zip(x.strides()).all(|(&n, &s)| {
            let fits = n == 1 || s == step;
            step = step.wrapping_mul(n as isize);
            fits
        })
}

/// Whether `x` can be read as `flags` ask.
fn allowed(x: &Tensor, flags: c_int) -> PyResult<()> {
    let asks = |flag: c_int| flags & flag == flag;
    let (rows, columns) = (x.is_contiguous(), is_fortran(x));
    let refused = if x.is_tracked() {
        "the tensor requires grad; use detach()"
    } else if asks(ffi::PyBUF_WRITABLE) {
        "it is read only, since other tensors may hold the same elements; write to a copy"
    } else if asks(ffi::PyBUF_FORMAT) && !asks(ffi::PyBUF_ND) {
        "a format is given only together with the shape"
    } else if asks(ffi::PyBUF_F_CONTIGUOUS) && !columns {
        "the elements are not in Fortran's order"
    } else if asks(ffi::PyBUF_ANY_CONTIGUOUS) && !rows && !columns {
        "the elements do not lie one after the other; use contiguous()"
    } else if !rows && (asks(ffi::PyBUF_C_CONTIGUOUS) || !asks(ffi::PyBUF_STRIDES)) {
        "the elements are not in row-major order; use contiguous()"
    } else {
        return Ok(());
    };
    Err(PyBufferError::new_err(format!("buffer: {refused}")))
}

#[pymethods]
impl PyTensor {
    /// The elements in place, read only. As with `numpy()` they stay as they are: a later write to the tensor goes to
    /// other memory.
    ///
    /// # Safety
    /// As Python calls it: `view` is null or may be written to.
    unsafe fn __getbuffer__(slf: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("buffer: no place for it"));
        }
        // SAFETY: says the caller; an error leaves no object there.
        unsafe { (*view).obj = std::ptr::null_mut() };
        let x = slf.get().value()?;
        allowed(&x, flags)?;
        let format = format(x.dtype())?;
        let size = x.dtype().size() as isize;
        let len = isize::try_from(x.numel()).ok().and_then(|n| n.checked_mul(size));
        let len = len.ok_or_else(|| PyBufferError::new_err(format!("buffer: shape {} is too large", x.shape())))?;
        let (buf, rank) = (x.data_ptr().cast_mut(), x.rank());
        let mut exported = Box::new(Exported {
            shape: x.dims().iter().map(|&n| n as isize).collect(),
            strides: x.strides().iter().map(|&s| s * size).collect(),
            _value: x,
        });
        let asks = |flag: c_int| flags & flag == flag;
        // A tensor without dims has no shape to point at; without a shape it is one row of bytes.
        let shape = if rank > 0 && asks(ffi::PyBUF_ND) { exported.shape.as_mut_ptr() } else { std::ptr::null_mut() };
        let strided = rank > 0 && asks(ffi::PyBUF_STRIDES);
        let strides = if strided { exported.strides.as_mut_ptr() } else { std::ptr::null_mut() };
        // SAFETY: `view` is the caller's to fill; what it points at lives in the box, until `__releasebuffer__`.
        unsafe {
            (*view).buf = buf.cast();
            (*view).len = len;
            (*view).itemsize = size;
            (*view).readonly = 1;
            (*view).ndim = if asks(ffi::PyBUF_ND) { rank as c_int } else { 1 };
            (*view).format = if asks(ffi::PyBUF_FORMAT) { format.as_ptr().cast_mut() } else { std::ptr::null_mut() };
            (*view).shape = shape;
            (*view).strides = strides;
            (*view).suboffsets = std::ptr::null_mut();
            (*view).internal = Box::into_raw(exported).cast();
            (*view).obj = slf.clone().into_ptr();
        }
        Ok(())
    }

    /// # Safety
    /// As Python calls it: once for each buffer that [`PyTensor::__getbuffer__`] filled.
    unsafe fn __releasebuffer__(&self, view: *mut ffi::Py_buffer) {
        // SAFETY: the box was made there, and nobody else takes it.
        drop(unsafe { Box::from_raw((*view).internal.cast::<Exported>()) });
    }
}
