//! The graph of an expression typed in: numbers forward, gradients backward.
//!
//! ```text
//! sum     = product { ("+" | "-") product }
//! product = unary { ("*" | "/") unary }
//! unary   = "-" unary | power
//! power   = atom [ "^" unary ]
//! atom    = number | name | function "(" sum { "," sum } ")" | "(" sum ")"
//! ```

use std::collections::BTreeMap;

use rushlight::{Tensor, grad};
use serde::{Deserialize, Serialize};

use crate::Outcome;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    expression: String,
    variables: BTreeMap<String, f64>,
}

#[derive(Serialize)]
pub struct Answer {
    /// In the order in which they were computed; the last is the result.
    nodes: Vec<Shown>,
}

#[derive(Serialize)]
struct Shown {
    label: String,
    /// The nodes it is computed from.
    inputs: Vec<usize>,
    value: Number,
    /// Of the result by this; none of a constant.
    gradient: Option<Number>,
}

/// JSON has no infinities and no NaN: they are sent by the names that JavaScript has for them.
#[derive(Serialize)]
#[serde(untagged)]
enum Number {
    Finite(f64),
    Named(&'static str),
}

impl From<f64> for Number {
    fn from(v: f64) -> Number {
        match v {
            v if v.is_finite() => Number::Finite(v),
            f64::INFINITY => Number::Named("Infinity"),
            f64::NEG_INFINITY => Number::Named("-Infinity"),
            _ => Number::Named("NaN"),
        }
    }
}

const LENGTH: usize = 200;
const NODES: usize = 64;
const DEPTH: usize = 24;

struct Node {
    label: String,
    inputs: Vec<usize>,
    value: Tensor,
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    variables: &'a BTreeMap<String, f64>,
    nodes: Vec<Node>,
    names: BTreeMap<&'a str, usize>,
}

pub fn answer(ask: Ask) -> Outcome<Answer> {
    if ask.expression.len() > LENGTH || ask.variables.len() > 16 {
        return Err(format!("expected an expression of at most {LENGTH} bytes and at most 16 variables").into());
    }
    let mut parser = Parser {
        text: &ask.expression,
        at: 0,
        depth: 0,
        variables: &ask.variables,
        nodes: vec![],
        names: BTreeMap::new(),
    };
    let result = parser.sum()?;
    if let Some(c) = parser.peek() {
        return Err(parser.error(format!("unexpected {c:?}")));
    }
    let nodes = parser.nodes;
    let tracked: Vec<&Tensor> = nodes.iter().map(|n| &n.value).filter(|v| v.is_tracked()).collect();
    let found = match nodes[result].value.is_tracked() {
        true => grad(&[&nodes[result].value], &tracked, false)?,
        false => vec![],
    };
    let mut found = found.into_iter();
    let shown = nodes.into_iter().map(|n| {
        let gradient = if n.value.is_tracked() { found.next().flatten() } else { None };
        let gradient = gradient.map(|g| g.item::<f64>()).transpose()?.map(Number::from);
        Ok(Shown { label: n.label, inputs: n.inputs, value: n.value.item::<f64>()?.into(), gradient })
    });
    Ok(Answer { nodes: shown.collect::<Outcome<_>>()? })
}

impl<'a> Parser<'a> {
    fn error(&self, what: String) -> Box<dyn std::error::Error + Send + Sync> {
        format!("at character {}: {what}", self.text[..self.at].chars().count() + 1).into()
    }

    /// The next character that is no space.
    fn peek(&mut self) -> Option<char> {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        self.text[self.at..].chars().next()
    }

    fn take(&mut self, wanted: char) -> bool {
        let here = self.peek() == Some(wanted);
        self.at += if here { wanted.len_utf8() } else { 0 };
        here
    }

    fn expect(&mut self, wanted: char) -> Outcome {
        match self.take(wanted) {
            true => Ok(()),
            false => Err(self.error(format!("expected {wanted:?}"))),
        }
    }

    /// What lies ahead for as long as `f` holds.
    fn word(&mut self, f: impl Fn(char) -> bool) -> &'a str {
        let rest = &self.text[self.at..];
        let word = &rest[..rest.find(|c| !f(c)).unwrap_or(rest.len())];
        self.at += word.len();
        word
    }

    fn node(&mut self, label: impl Into<String>, inputs: Vec<usize>, value: Tensor) -> Outcome<usize> {
        if self.nodes.len() == NODES {
            return Err(self.error(format!("more than {NODES} nodes")));
        }
        self.nodes.push(Node { label: label.into(), inputs, value });
        Ok(self.nodes.len() - 1)
    }

    fn pair(
        &mut self,
        label: &str,
        [a, b]: [usize; 2],
        f: impl Fn(&Tensor, &Tensor) -> rushlight::Result<Tensor>,
    ) -> Outcome<usize> {
        let value = f(&self.nodes[a].value, &self.nodes[b].value)?;
        self.node(label, vec![a, b], value)
    }

    fn sum(&mut self) -> Outcome<usize> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(self.error(format!("more than {DEPTH} deep")));
        }
        let mut a = self.product()?;
        loop {
            if self.take('+') {
                let b = self.product()?;
                a = self.pair("+", [a, b], |a, b| a.add(b))?;
            } else if self.take('-') {
                let b = self.product()?;
                a = self.pair("−", [a, b], |a, b| a.sub(b))?;
            } else {
                self.depth -= 1;
                return Ok(a);
            }
        }
    }

    fn product(&mut self) -> Outcome<usize> {
        let mut a = self.unary()?;
        loop {
            if self.take('*') {
                let b = self.unary()?;
                a = self.pair("×", [a, b], |a, b| a.mul(b))?;
            } else if self.take('/') {
                let b = self.unary()?;
                a = self.pair("÷", [a, b], |a, b| a.div(b))?;
            } else {
                return Ok(a);
            }
        }
    }

    fn unary(&mut self) -> Outcome<usize> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(self.error(format!("more than {DEPTH} deep")));
        }
        let found = if self.take('-') {
            let a = self.unary()?;
            let value = self.nodes[a].value.neg()?;
            self.node("neg", vec![a], value)
        } else {
            let a = self.atom()?;
            if self.take('^') {
                let b = self.unary()?;
                self.pair("pow", [a, b], |a, b| a.pow(b))
            } else {
                Ok(a)
            }
        };
        self.depth -= 1;
        found
    }

    fn atom(&mut self) -> Outcome<usize> {
        match self.peek() {
            Some('(') => {
                self.expect('(')?;
                let a = self.sum()?;
                self.expect(')')?;
                Ok(a)
            }
            Some(c) if c.is_ascii_digit() || c == '.' => {
                let start = self.at;
                self.word(|c| c.is_ascii_digit() || c == '.');
                if self.text[self.at..].starts_with(['e', 'E']) {
                    self.at += 1;
                    self.at += usize::from(self.text[self.at..].starts_with(['+', '-']));
                    self.word(|c| c.is_ascii_digit());
                }
                let text = &self.text[start..self.at];
                let Ok(value) = text.parse::<f64>() else {
                    self.at = start;
                    return Err(self.error(format!("{text:?} is no number")));
                };
                self.node(text, vec![], Tensor::from_vec(vec![value], ())?)
            }
            Some(c) if c.is_ascii_alphabetic() => {
                let start = self.at;
                let name = self.word(|c| c.is_ascii_alphanumeric() || c == '_');
                if self.peek() == Some('(') { self.call(name, start) } else { self.variable(name, start) }
            }
            Some(c) => Err(self.error(format!("unexpected {c:?}"))),
            None => Err(self.error("the expression ends too early".into())),
        }
    }

    /// Each name is one node, however often it is used.
    fn variable(&mut self, name: &'a str, start: usize) -> Outcome<usize> {
        if let Some(node) = self.names.get(name) {
            return Ok(*node);
        }
        let Some(value) = self.variables.get(name) else {
            self.at = start;
            return Err(self.error(format!("{name} has no value")));
        };
        let node = self.node(name, vec![], Tensor::from_vec(vec![*value], ())?.requires_grad()?)?;
        self.names.insert(name, node);
        Ok(node)
    }

    fn call(&mut self, name: &str, start: usize) -> Outcome<usize> {
        self.expect('(')?;
        let mut args = vec![self.sum()?];
        while self.take(',') {
            args.push(self.sum()?);
        }
        self.expect(')')?;
        let [x, y] = [args[0], args[args.len() - 1]].map(|a| &self.nodes[a].value);
        let value = match (name, args.len()) {
            ("exp", 1) => x.exp()?,
            ("log", 1) => x.log()?,
            ("sqrt", 1) => x.sqrt()?,
            ("sin", 1) => x.sin()?,
            ("cos", 1) => x.cos()?,
            ("tanh", 1) => x.tanh()?,
            ("sigmoid", 1) => x.sigmoid()?,
            ("relu", 1) => x.relu()?,
            ("abs", 1) => x.abs()?,
            ("max", 2) => x.maximum(y)?,
            ("min", 2) => x.minimum(y)?,
            _ => {
                self.at = start;
                let known = "exp, log, sqrt, sin, cos, tanh, sigmoid, relu and abs of one number, max and min of two";
                return Err(self.error(format!("no function {name} of {} numbers; there are {known}", args.len())));
            }
        };
        self.node(name, args, value)
    }
}
