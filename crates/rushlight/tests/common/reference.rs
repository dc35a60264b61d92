//! What PyTorch answered: the cases that `tests/reference/make.py` wrote, read back as plain numbers.
#![allow(dead_code)] // each test file uses its part

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// Shape and values in row-major order, whatever the dtype; bools are 0 and 1.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefTensor {
    pub dtype: String,
    pub shape: Vec<usize>,
    #[serde(deserialize_with = "numbers")]
    pub data: Vec<f64>,
}

/// One line of a file: an operation, what it was given and what came out. Lists that a case does not have are empty.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub op: String,
    /// Only the outputs are meant to be compared.
    #[serde(default)]
    pub edge: bool,
    pub args: Map<String, Value>,
    #[serde(default)]
    pub inputs: Vec<RefTensor>,
    #[serde(default)]
    pub outputs: Vec<RefTensor>,
    /// What was sent back into each output; `None` where it has no gradient.
    #[serde(default)]
    pub grad_output: Vec<Option<RefTensor>>,
    /// What arrived at each input, or the gradients an optimizer was given.
    #[serde(default)]
    pub grads: Vec<Option<RefTensor>>,
    /// An optimizer's parameter before the first step, and after each.
    #[serde(default)]
    pub start: Option<RefTensor>,
    #[serde(default)]
    pub params: Vec<RefTensor>,
    /// The learning rate of each step, where it changes.
    #[serde(default)]
    pub lrs: Vec<f64>,
    /// A schedule's rate at each step, from a rate of one.
    #[serde(default)]
    pub factors: Vec<f64>,
    /// The norm of all gradients before they were clipped.
    #[serde(default)]
    pub norm: Option<f64>,
    /// The line it stands on.
    #[serde(skip)]
    pub line: usize,
}

/// A file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "torch")]
    _torch: String,
    cases: Vec<Case>,
}

/// The files, by name and sorted.
pub fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    files.sort();
    files
}

/// The cases of a file, such as `conv` of `conv.json`.
#[track_caller]
pub fn load(name: &str) -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/reference/{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    parse(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The cases in the text of a file.
pub fn parse(text: &str) -> serde_json::Result<Vec<Case>> {
    let mut cases = serde_json::from_str::<File>(text)?.cases;
    // One case a line, behind a line for the version.
    cases.iter_mut().enumerate().for_each(|(i, case)| case.line = i + 2);
    Ok(cases)
}

impl Case {
    /// What a failing test calls it: where it stands and what it is.
    pub fn name(&self) -> String {
        format!("line {}: {} {}", self.line, self.op, Value::Object(self.args.clone()))
    }

    /// The argument `name`, as the type the caller asks for.
    #[track_caller]
    pub fn arg<T: FromArg>(&self, name: &str) -> T {
        self.optional(name).unwrap_or_else(|| panic!("{}: no argument {name}", self.name()))
    }

    /// The argument `name`, or `None` where it is absent or null.
    #[track_caller]
    pub fn optional<T: FromArg>(&self, name: &str) -> Option<T> {
        let value = self.args.get(name).filter(|value| !value.is_null())?;
        let read = T::from_arg(value);
        assert!(read.is_some(), "{}: {name} is no {}", self.name(), std::any::type_name::<T>());
        read
    }
}

/// What an argument can be read as.
pub trait FromArg: Sized {
    /// `None` where the value is something else.
    fn from_arg(value: &Value) -> Option<Self>;
}

impl FromArg for f64 {
    fn from_arg(value: &Value) -> Option<f64> {
        match value {
            Value::String(name) => named(name),
            _ => value.as_f64(),
        }
    }
}

impl FromArg for usize {
    fn from_arg(value: &Value) -> Option<usize> {
        value.as_u64()?.try_into().ok()
    }
}

impl FromArg for i64 {
    fn from_arg(value: &Value) -> Option<i64> {
        value.as_i64()
    }
}

impl FromArg for bool {
    fn from_arg(value: &Value) -> Option<bool> {
        value.as_bool()
    }
}

impl FromArg for String {
    fn from_arg(value: &Value) -> Option<String> {
        value.as_str().map(String::from)
    }
}

impl<T: FromArg> FromArg for Vec<T> {
    fn from_arg(value: &Value) -> Option<Vec<T>> {
        value.as_array()?.iter().map(T::from_arg).collect()
    }
}

impl<T: FromArg, const N: usize> FromArg for [T; N] {
    fn from_arg(value: &Value) -> Option<[T; N]> {
        Vec::from_arg(value)?.try_into().ok()
    }
}

/// The numbers JSON has no way to write.
fn named(name: &str) -> Option<f64> {
    match name {
        "nan" => Some(f64::NAN),
        "inf" => Some(f64::INFINITY),
        "-inf" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

fn numbers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
    let values = Vec::<Value>::deserialize(deserializer)?;
    let number = |v| f64::from_arg(v).ok_or_else(|| serde::de::Error::custom(format!("{v} is no number")));
    values.iter().map(number).collect()
}

/// Whether each element is within `atol + rtol · |expected|` (NaN equals NaN); an error tells the first that is not.
pub fn close(actual: &[f64], expected: &[f64], rtol: f64, atol: f64) -> Result<(), String> {
    if actual.len() != expected.len() {
        return Err(format!("{} elements, expected {}", actual.len(), expected.len()));
    }
    let same = |a: f64, e: f64| {
        // An infinity is only close to itself, though its tolerance would be infinite.
        a == e || (a.is_nan() && e.is_nan()) || (e.is_finite() && (a - e).abs() <= atol + rtol * e.abs())
    };
    match actual.iter().zip(expected).position(|(&a, &e)| !same(a, e)) {
        Some(i) => Err(format!("element {i} is {:?}, expected {:?}", actual[i], expected[i])),
        None => Ok(()),
    }
}
