//! [`Module`]: a struct with parameters, and everything that can be done to all of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::RwLock;

use crate::{Error, Result, Tensor};

/// What a module's tensor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Trained.
    Parameter,
    /// Kept and saved, not trained: running statistics.
    Buffer,
}

/// The dotted name of the place a visit has come to.
pub struct Path(String);

impl Default for Path {
    fn default() -> Path {
        Path(String::with_capacity(64))
    }
}

impl Path {
    /// Runs `f` inside the field `name`.
    pub fn enter<R>(&mut self, name: &str, f: impl FnOnce(&mut Path) -> R) -> R {
        let before = self.0.len();
        if before > 0 {
            self.0.push('.');
        }
        self.0.push_str(name);
        let result = f(self);
        self.0.truncate(before);
        result
    }

    /// The name, as in `conv1.weight`.
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// What [`Module::visit`] calls with each tensor.
pub type Visitor<'a> = dyn FnMut(&str, Kind, &Tensor) + 'a;
/// What [`Module::visit_mut`] calls with each tensor.
pub type VisitorMut<'a> = dyn FnMut(&str, Kind, &mut Tensor) -> Result<()> + 'a;

/// All tensors of a module by dotted name.
pub type StateDict = BTreeMap<String, Tensor>;

/// A part of a network: something that holds parameters, buffers and other modules.
///
/// `#[derive(Module)]` writes the four required methods: every field is visited under its name, but for plain numbers,
/// bools, strings and arrays of them, which appear in the printout, and fields marked `#[module(skip)]`. A [`Tensor`]
/// is a parameter, a [`Buffer`] a buffer, and `Option`, `Vec`, `Box` and tuples of modules are modules.
///
/// ```
/// use rushlight::nn::{Layer, Linear, Module};
/// use rushlight::{Result, Tensor};
///
/// #[derive(Module)]
/// struct Mlp {
///     hidden: Linear,
///     out: Linear,
/// }
///
/// impl Mlp {
///     fn forward(&self, x: &Tensor) -> Result<Tensor> {
///         self.out.forward(&self.hidden.forward(x)?.relu()?)
///     }
/// }
///
/// let model = Mlp { hidden: Linear::new(2, 8)?, out: Linear::new(8, 1)? };
/// let names: Vec<String> = model.named_parameters().into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["hidden.weight", "hidden.bias", "out.weight", "out.bias"]);
/// assert_eq!(model.num_parameters(), 2 * 8 + 8 + 8 + 1);
/// # Ok::<(), rushlight::Error>(())
/// ```
pub trait Module {
    /// Calls `f` with the name, kind and value of each tensor, in the order of the fields.
    fn visit(&self, path: &mut Path, f: &mut Visitor<'_>);

    /// As [`Module::visit`], to change the tensors.
    fn visit_mut(&mut self, path: &mut Path, f: &mut VisitorMut<'_>) -> Result<()>;

    /// Switches dropout, batch norm and the like between training and evaluation.
    fn set_training(&mut self, training: bool);

    /// Its type, settings and children, for the printout.
    fn describe(&self) -> Description;

    /// Training mode. PyTorch: `train()`.
    fn train(&mut self) {
        self.set_training(true);
    }

    /// Evaluation mode: dropout off, batch norm by its running statistics. PyTorch: `eval()`.
    fn eval(&mut self) {
        self.set_training(false);
    }

    /// The parameters with their dotted names. PyTorch: `named_parameters()`.
    fn named_parameters(&self) -> Vec<(String, Tensor)> {
        named(self, Kind::Parameter)
    }

    /// The parameters. PyTorch: `parameters()`.
    fn parameters(&self) -> Vec<Tensor> {
        self.named_parameters().into_iter().map(|(_, t)| t).collect()
    }

    /// The buffers with their dotted names. PyTorch: `named_buffers()`.
    fn named_buffers(&self) -> Vec<(String, Tensor)> {
        named(self, Kind::Buffer)
    }

    /// How many numbers are trained.
    fn num_parameters(&self) -> usize {
        self.parameters().iter().map(Tensor::numel).sum()
    }

    /// Parameters and buffers by name, outside the graph. PyTorch: `state_dict()`.
    fn state_dict(&self) -> StateDict {
        let mut state = StateDict::new();
        self.visit(&mut Path::default(), &mut |name, _, t| {
            state.insert(name.to_string(), t.detach());
        });
        state
    }

    /// Takes the values of parameters and buffers from `state`, cast to their dtypes; nothing changes on an error.
    ///
    /// Errors: a name that is missing or not known here, or a shape that differs; all of them are listed.
    /// PyTorch: `load_state_dict(strict=True)`.
    fn load_state_dict(&mut self, state: &StateDict) -> Result<()> {
        load(self, state, true)
    }

    /// [`Module::load_state_dict`] of the names that both have. PyTorch: `strict=False`. Shapes must still agree.
    fn load_state_dict_partial(&mut self, state: &StateDict) -> Result<()> {
        load(self, state, false)
    }

    /// Sets whether gradients are computed for the parameters: `false` freezes them. PyTorch: `requires_grad_()`.
    fn set_requires_grad(&mut self, on: bool) -> Result<()> {
        self.visit_mut(&mut Path::default(), &mut |_, kind, t| {
            if kind == Kind::Parameter && t.is_tracked() != on {
                *t = if on { t.requires_grad()? } else { t.detach() };
            }
            Ok(())
        })
    }
}

fn named<M: Module + ?Sized>(module: &M, want: Kind) -> Vec<(String, Tensor)> {
    let mut out = vec![];
    module.visit(&mut Path::default(), &mut |name, kind, t| {
        if kind == want {
            out.push((name.to_string(), t.clone()));
        }
    });
    out
}

fn load<M: Module + ?Sized>(module: &mut M, state: &StateDict, strict: bool) -> Result<()> {
    let (mut problems, mut known) = (vec![], std::collections::BTreeSet::new());
    module.visit(&mut Path::default(), &mut |name, _, t| {
        known.insert(name.to_string());
        match state.get(name) {
            None if strict => problems.push(format!("missing {name} {}", t.shape())),
            Some(new) if new.shape() != t.shape() => {
                problems.push(format!("{name} has shape {}, the module's is {}", new.shape(), t.shape()));
            }
            _ => {}
        }
    });
    if strict {
        problems.extend(state.keys().filter(|k| !known.contains(*k)).map(|k| format!("unknown {k}")));
    }
    if !problems.is_empty() {
        return Err(Error::invalid("load_state_dict", problems.join("; ")));
    }
    module.visit_mut(&mut Path::default(), &mut |name, _, t| {
        if let Some(new) = state.get(name) {
            let new = new.detach().to_dtype(t.dtype())?;
            // The new value takes the old one's place in the graph, so gradients found by it stay valid.
            *t = new.with_node(t.node().cloned());
        }
        Ok(())
    })
}

/// A module that maps one tensor to one tensor: what [`super::Sequential`] chains.
pub trait Layer: Module {
    /// Its output for `x`.
    fn forward(&self, x: &Tensor) -> Result<Tensor>;
}

impl Module for Tensor {
    fn visit(&self, path: &mut Path, f: &mut Visitor<'_>) {
        f(path.name(), Kind::Parameter, self);
    }

    fn visit_mut(&mut self, path: &mut Path, f: &mut VisitorMut<'_>) -> Result<()> {
        f(path.name(), Kind::Parameter, self)
    }

    fn set_training(&mut self, _: bool) {}

    fn describe(&self) -> Description {
        Description::hidden()
    }
}

/// A tensor that a module keeps and saves but does not train, and may change while it only computes.
pub struct Buffer(RwLock<Tensor>);

impl Buffer {
    /// A buffer that starts as `value`.
    pub fn new(value: Tensor) -> Buffer {
        Buffer(RwLock::new(value.detach()))
    }

    /// Its value now.
    pub fn get(&self) -> Tensor {
        self.0.read().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Replaces its value.
    pub fn set(&self, value: &Tensor) {
        *self.0.write().unwrap_or_else(|e| e.into_inner()) = value.detach();
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Buffer {
        Buffer::new(self.get())
    }
}

impl Module for Buffer {
    fn visit(&self, path: &mut Path, f: &mut Visitor<'_>) {
        f(path.name(), Kind::Buffer, &self.get());
    }

    fn visit_mut(&mut self, path: &mut Path, f: &mut VisitorMut<'_>) -> Result<()> {
        f(path.name(), Kind::Buffer, self.0.get_mut().unwrap_or_else(|e| e.into_inner()))
    }

    fn set_training(&mut self, _: bool) {}

    fn describe(&self) -> Description {
        Description::hidden()
    }
}

impl<M: Module + ?Sized> Module for Box<M> {
    fn visit(&self, path: &mut Path, f: &mut Visitor<'_>) {
        (**self).visit(path, f);
    }

    fn visit_mut(&mut self, path: &mut Path, f: &mut VisitorMut<'_>) -> Result<()> {
        (**self).visit_mut(path, f)
    }

    fn set_training(&mut self, training: bool) {
        (**self).set_training(training);
    }

    fn describe(&self) -> Description {
        (**self).describe()
    }
}

impl<M: Module> Module for Option<M> {
    fn visit(&self, path: &mut Path, f: &mut Visitor<'_>) {
        if let Some(m) = self {
            m.visit(path, f);
        }
    }

    fn visit_mut(&mut self, path: &mut Path, f: &mut VisitorMut<'_>) -> Result<()> {
        self.as_mut().map_or(Ok(()), |m| m.visit_mut(path, f))
    }

    fn set_training(&mut self, training: bool) {
        if let Some(m) = self {
            m.set_training(training);
        }
    }

    fn describe(&self) -> Description {
        self.as_ref().map_or_else(Description::hidden, Module::describe)
    }
}

impl<M: Module> Module for Vec<M> {
    fn visit(&self, path: &mut Path, f: &mut Visitor<'_>) {
        for (i, m) in self.iter().enumerate() {
            path.enter(&i.to_string(), |path| m.visit(path, f));
        }
    }

    fn visit_mut(&mut self, path: &mut Path, f: &mut VisitorMut<'_>) -> Result<()> {
        self.iter_mut().enumerate().try_for_each(|(i, m)| path.enter(&i.to_string(), |path| m.visit_mut(path, f)))
    }

    fn set_training(&mut self, training: bool) {
        self.iter_mut().for_each(|m| m.set_training(training));
    }

    fn describe(&self) -> Description {
        let children = self.iter().enumerate().map(|(i, m)| (i.to_string(), m.describe())).collect();
        Description { name: "ModuleList".to_string(), settings: String::new(), children, hidden: false }
    }
}

/// A module's type, settings and children: the source of its printout.
#[derive(Clone, Debug)]
pub struct Description {
    /// The type: `Linear`.
    pub name: String,
    /// The settings: `2, 8, bias=true`.
    pub settings: String,
    /// The children by field name.
    pub children: Vec<(String, Description)>,
    /// Left out of the printout, as a single tensor is.
    pub hidden: bool,
}

impl Description {
    /// A module without children.
    pub fn leaf(name: &str, settings: impl Into<String>) -> Description {
        Description { name: name.to_string(), settings: settings.into(), children: vec![], hidden: false }
    }

    /// Not shown.
    pub fn hidden() -> Description {
        Description { hidden: true, ..Description::leaf("", "") }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, indent: usize) -> fmt::Result {
        write!(f, "{}(", self.name)?;
        let mut shown = self.children.iter().filter(|(_, c)| !c.hidden).peekable();
        if shown.peek().is_none() {
            return write!(f, "{})", self.settings);
        }
        let pad = " ".repeat(indent);
        if !self.settings.is_empty() {
            write!(f, "\n{pad}  {}", self.settings)?;
        }
        for (name, child) in shown {
            write!(f, "\n{pad}  ({name}): ")?;
            child.write(f, indent + 2)?;
        }
        write!(f, "\n{pad})")
    }
}

/// The nested printout, as PyTorch's `print(model)`.
impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}
