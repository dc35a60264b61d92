//! `rushlight.float32` and the other dtypes.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use rushlight::DType;

/// The type of a tensor's elements: `rushlight.float32`, `rushlight.int64`, …
#[pyclass(name = "dtype", module = "rushlight", frozen, eq, hash)]
#[derive(PartialEq, Eq, Hash)]
pub struct PyDType(pub DType);

/// PyTorch's names, the name that the library uses, and NumPy's code (`None`: NumPy has no such dtype).
const TABLE: [(DType, &[&str], Option<&str>); 7] = [
    (DType::F32, &["float32", "float", "f32"], Some("f4")),
    (DType::F64, &["float64", "double", "f64"], Some("f8")),
    (DType::BF16, &["bfloat16", "bf16"], None),
    (DType::F16, &["float16", "half", "f16"], Some("f2")),
    (DType::I64, &["int64", "long", "i64"], Some("i8")),
    (DType::U8, &["uint8", "u8"], Some("u1")),
    (DType::Bool, &["bool"], Some("b1")),
];

/// PyTorch's name of a dtype.
pub fn name(dtype: DType) -> &'static str {
    TABLE.iter().find(|row| row.0 == dtype).map_or("", |row| row.1[0])
}

/// NumPy's code, as in `__array_interface__` without the byte order.
pub fn numpy_code(dtype: DType) -> Option<&'static str> {
    TABLE.iter().find(|row| row.0 == dtype).and_then(|row| row.2)
}

/// The dtype of a NumPy code.
pub fn from_numpy_code(code: &str) -> Option<DType> {
    TABLE.iter().find(|row| row.2 == Some(code)).map(|row| row.0)
}

/// The one object of a dtype: `x.dtype is rushlight.float32` holds.
pub fn object(py: Python<'_>, dtype: DType) -> PyResult<Py<PyDType>> {
    static OBJECTS: PyOnceLock<[Py<PyDType>; 7]> = PyOnceLock::new();
    let all = OBJECTS.get_or_try_init(py, || {
        let all = TABLE.iter().map(|row| Py::new(py, PyDType(row.0))).collect::<PyResult<Vec<_>>>()?;
        all.try_into().map_err(|_| PyValueError::new_err("internal: seven dtypes"))
    })?;
    let place = TABLE.iter().position(|row| row.0 == dtype).unwrap_or(0);
    Ok(all[place].clone_ref(py))
}

/// As an argument: a dtype, Python's `float`, `int` or `bool`, or a name.
#[derive(Clone, Copy)]
pub struct AnyDType(pub DType);

impl<'a, 'py> FromPyObject<'a, 'py> for AnyDType {
    type Error = PyErr;

    fn extract(obj: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(dtype) = obj.cast::<PyDType>() {
            return Ok(AnyDType(dtype.get().0));
        }
        let name = if let Ok(ty) = obj.cast::<pyo3::types::PyType>() {
            match &*ty.name()?.to_string() {
                "int" => "int64".to_string(),
                other => other.to_string(),
            }
        } else if let Ok(name) = obj.extract::<String>() {
            name
        } else {
            // NumPy's dtype objects have a name of the same spelling.
            obj.getattr("name").and_then(|n| n.extract()).map_err(|_| {
                PyTypeError::new_err(format!("expected a dtype such as rushlight.float32, got {}", obj.get_type()))
            })?
        };
        let row = TABLE.iter().find(|row| row.1.contains(&name.as_str()));
        row.map(|row| AnyDType(row.0)).ok_or_else(|| {
            let names: Vec<_> = TABLE.iter().map(|row| row.1[0]).collect();
            PyTypeError::new_err(format!("no dtype is named {name:?}; there are {}", names.join(", ")))
        })
    }
}

#[pymethods]
impl PyDType {
    fn __repr__(&self) -> String {
        format!("rushlight.{}", name(self.0))
    }

    /// Pickled, and copied, by name.
    fn __reduce__(&self) -> &'static str {
        name(self.0)
    }

    /// Bytes of an element.
    #[getter]
    fn itemsize(&self) -> usize {
        self.0.size()
    }

    /// Whether it is a float dtype: what gradients exist for.
    #[getter]
    fn is_floating_point(&self) -> bool {
        self.0.is_float()
    }
}

/// The float dtype of new tensors: f32 unless `set_default_dtype` says f64.
pub fn default_float() -> DType {
    match DEFAULT.load(std::sync::atomic::Ordering::Relaxed) {
        true => DType::F64,
        false => DType::F32,
    }
}

static DEFAULT: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// The float dtype that `tensor([1.5])`, `rand` and layers use from now on.
#[pyfunction]
fn set_default_dtype(d: AnyDType) -> PyResult<()> {
    match d.0 {
        DType::F32 => DEFAULT.store(false, std::sync::atomic::Ordering::Relaxed),
        DType::F64 => DEFAULT.store(true, std::sync::atomic::Ordering::Relaxed),
        other => {
            return Err(PyTypeError::new_err(format!("the default dtype is float32 or float64, not {}", name(other))));
        }
    }
    Ok(())
}

/// The float dtype of new tensors.
#[pyfunction]
fn get_default_dtype(py: Python<'_>) -> PyResult<Py<PyDType>> {
    object(py, default_float())
}

/// The dtype that combining two gives.
#[pyfunction]
fn promote_types(py: Python<'_>, type1: AnyDType, type2: AnyDType) -> PyResult<Py<PyDType>> {
    object(py, type1.0.promote(type2.0))
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyDType>()?;
    for (dtype, names, _) in TABLE {
        for name in names.iter().filter(|n| !["f32", "f64", "bf16", "f16", "i64", "u8"].contains(n)) {
            m.add(*name, object(m.py(), dtype)?)?;
        }
    }
    m.add_function(wrap_pyfunction!(set_default_dtype, m)?)?;
    m.add_function(wrap_pyfunction!(get_default_dtype, m)?)?;
    m.add_function(wrap_pyfunction!(promote_types, m)?)
}
