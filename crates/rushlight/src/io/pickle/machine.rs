//! The stack machine of pickles: one instruction after the other, each for plain values only.

use std::collections::HashMap;

use super::{Global, Object, Pickle, Span, StorageRef, TensorRef, global};
use crate::io::cursor::Cursor;
use crate::{Error, Result};

/// Steps, and values on the stack: enough for some 100,000 tensors.
const MAX_STEPS: usize = 8 << 20;

/// What a pickle's instructions work on.
pub(super) struct Machine<'a> {
    c: Cursor<'a>,
    p: Pickle<'a>,
    stack: Vec<Object>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Object>,
    /// Where the present instruction stands.
    op: usize,
}

impl<'a> Machine<'a> {
    fn error(&self, message: impl Into<String>) -> Error {
        self.c.error(self.op, format!("pickle: {}", message.into()))
    }

    /// At the start of the cursor's bytes.
    pub fn new(c: Cursor<'a>, p: Pickle<'a>) -> Machine<'a> {
        Machine { c, p, stack: vec![], marks: vec![], memo: HashMap::new(), op: 0 }
    }

    /// To the end of the pickle.
    pub fn run(mut self) -> Result<Pickle<'a>> {
        for _ in 0..MAX_STEPS {
            self.op = self.c.at();
            let op = self.c.u8("pickle: an instruction")?;
            if op == b'.' {
                self.p.root = self.pop()?;
                self.p.end = self.c.at();
                return Ok(self.p);
            }
            self.step(op)?;
            if self.stack.len() > MAX_STEPS {
                break;
            }
        }
        Err(self.error(format!("more than {MAX_STEPS} steps")))
    }

    fn step(&mut self, op: u8) -> Result<()> {
        let what = "pickle: a value";
        match op {
            0x80 => drop(self.c.u8(what)?),  // PROTO
            0x95 => drop(self.c.u64(what)?), // FRAME
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.marked()?), // POP_MARK
            b'2' => {
                let top = self.pop()?;
                self.stack.extend([top, top]);
            }
            b'N' => self.stack.push(Object::None),
            0x88 => self.stack.push(Object::Bool(true)),
            0x89 => self.stack.push(Object::Bool(false)),
            b'J' => {
                let x = i32::from_le_bytes(self.c.array(what)?);
                self.stack.push(Object::Int(x.into()));
            }
            b'K' => {
                let x = self.c.u8(what)?;
                self.stack.push(Object::Int(x.into()));
            }
            b'M' => {
                let x = u16::from_le_bytes(self.c.array(what)?);
                self.stack.push(Object::Int(x.into()));
            }
            b'G' => {
                let x = f64::from_be_bytes(self.c.array(what)?);
                self.stack.push(Object::Float(x));
            }
            0x8a => {
                let n = self.c.u8(what)?;
                self.long(n.into())?;
            }
            0x8b => {
                let n = self.c.u32(what)?;
                self.long(n.into())?;
            }
            0x8c => {
                let n = self.c.u8(what)?;
                self.text(n.into())?;
            }
            b'X' => {
                let n = self.c.u32(what)?;
                self.text(n.into())?;
            }
            0x8d => {
                let n = self.c.u64(what)?;
                self.text(n)?;
            }
            // Python 2's strings (T, U) and protocol 3's bytes (B, C).
            b'C' | b'U' => {
                let n = self.c.u8(what)?;
                self.span(n.into(), op == b'U')?;
            }
            b'B' | b'T' => {
                let n = self.c.u32(what)?;
                self.span(n.into(), op == b'T')?;
            }
            b']' => self.make(Object::List, vec![])?,
            b')' => self.make(Object::Tuple, vec![])?,
            b'}' => self.make(Object::Dict, vec![])?,
            0x8f => self.make(Object::List, vec![])?, // EMPTY_SET
            b'l' | 0x91 => {
                let items = self.marked()?; // LIST, FROZENSET
                self.make(Object::List, items)?;
            }
            b't' => {
                let items = self.marked()?;
                self.make(Object::Tuple, items)?;
            }
            b'd' => {
                let items = self.marked()?;
                self.even(&items)?;
                self.make(Object::Dict, items)?;
            }
            0x85..=0x87 => {
                let n = op as usize - 0x84;
                let Some(first) = self.stack.len().checked_sub(n).filter(|f| *f >= self.floor()) else {
                    return Err(self.error("the stack is empty"));
                };
                let items = self.stack.split_off(first);
                self.make(Object::Tuple, items)?;
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item], false)?;
            }
            b'e' | 0x90 => {
                let items = self.marked()?; // APPENDS, ADDITEMS
                self.append(items, false)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.append(vec![key, value], true)?;
            }
            b'u' => {
                let items = self.marked()?;
                self.even(&items)?;
                self.append(items, true)?;
            }
            b'h' => {
                let key = self.c.u8(what)?;
                self.get(key.into())?;
            }
            b'j' => {
                let key = self.c.u32(what)?;
                self.get(key)?;
            }
            b'q' => {
                let key = self.c.u8(what)?;
                self.put(key.into())?;
            }
            b'r' => {
                let key = self.c.u32(what)?;
                self.put(key)?;
            }
            0x94 => self.put(self.memo.len() as u32)?, // MEMOIZE
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)?;
            }
            0x93 => {
                let (Object::Text(name), Object::Text(module)) = (self.pop()?, self.pop()?) else {
                    return Err(self.error("a global's name is no text"));
                };
                self.global(self.p.text(module), self.p.text(name))?;
            }
            b'R' => self.reduce()?,
            // What is set on an ordered dict (a state dict's versions) says nothing about its tensors.
            b'b' => {
                self.pop()?;
                let of = self.top()?;
                if !matches!(of, Object::Dict(_) | Object::Tensor(_)) {
                    return Err(self.error("a state is set on what is no dict"));
                }
            }
            b'Q' => self.storage()?,
            _ => return Err(self.error(format!("instruction {op:#04x}, which state dicts do not use"))),
        }
        Ok(())
    }

    // ---- the stack ----

    /// What belongs to an open mark is not to be popped.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Object> {
        let top = self.stack.last().filter(|_| self.stack.len() > self.floor());
        top.copied().ok_or_else(|| self.error("the stack is empty"))
    }

    fn pop(&mut self) -> Result<Object> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn marked(&mut self) -> Result<Vec<Object>> {
        let mark = self.marks.pop().ok_or_else(|| self.error("no mark is open"))?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn get(&mut self, key: u32) -> Result<()> {
        let object = self.memo.get(&key).copied();
        self.stack.push(object.ok_or_else(|| self.error(format!("memo {key} is not set")))?);
        Ok(())
    }

    fn put(&mut self, key: u32) -> Result<()> {
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    // ---- values ----

    /// The next `n` bytes as a place.
    fn take(&mut self, n: u64) -> Result<(Span, &'a [u8])> {
        let at = self.c.at() as u32;
        let bytes = self.c.take(n, "pickle: a value")?;
        Ok(((at, n as u32), bytes))
    }

    fn text(&mut self, n: u64) -> Result<()> {
        let at = self.c.at() as u32;
        self.c.text(n, "pickle: a text")?;
        self.stack.push(Object::Text((at, n as u32)));
        Ok(())
    }

    /// Bytes, or text where that is asked for and they are.
    fn span(&mut self, n: u64, text: bool) -> Result<()> {
        let (span, bytes) = self.take(n)?;
        let text = text && std::str::from_utf8(bytes).is_ok();
        self.stack.push(if text { Object::Text(span) } else { Object::Bytes(span) });
        Ok(())
    }

    /// A signed integer of `n` bytes.
    fn long(&mut self, n: u64) -> Result<()> {
        let (span, bytes) = self.take(n)?;
        let object = if bytes.len() <= 8 {
            let negative = bytes.last().is_some_and(|b| *b >= 0x80);
            let mut wide = if negative { [0xff; 8] } else { [0; 8] };
            wide[..bytes.len()].copy_from_slice(bytes);
            Object::Int(i64::from_le_bytes(wide))
        } else {
            Object::Long(span)
        };
        self.stack.push(object);
        Ok(())
    }

    fn make(&mut self, of: impl Fn(u32) -> Object, items: Vec<Object>) -> Result<()> {
        self.stack.push(of(self.p.heap.len() as u32));
        self.p.heap.push(items);
        Ok(())
    }

    fn even(&self, items: &[Object]) -> Result<()> {
        if items.len().is_multiple_of(2) { Ok(()) } else { Err(self.error("a key without a value")) }
    }

    /// Adds to the list or dict on the stack.
    fn append(&mut self, items: Vec<Object>, dict: bool) -> Result<()> {
        let of = match self.top()? {
            Object::Dict(id) if dict => id,
            Object::List(id) if !dict => id,
            _ => return Err(self.error("items are added to what is no list or dict")),
        };
        self.p.heap[of as usize].extend(items);
        Ok(())
    }

    /// The next line, of a global's name.
    fn line(&mut self) -> Result<&'a str> {
        let at = self.c.at();
        let rest = &self.p.bytes[at..];
        let n = rest.iter().take(256).position(|b| *b == b'\n');
        let n = n.ok_or_else(|| self.error("a global's name does not end"))?;
        let line = self.c.text(n as u64, "pickle: a global's name")?;
        self.c.take(1, "pickle: a line's end")?;
        Ok(line)
    }

    fn global(&mut self, module: &str, name: &str) -> Result<()> {
        let Some(known) = global(module, name) else {
            let name: String = format!("{module}.{name}").chars().take(100).collect();
            return Err(self.error(format!("it names {name:?}, which is no part of a tensor; nothing of it was run")));
        };
        self.stack.push(Object::Global(known));
        Ok(())
    }

    // ---- tensors ----

    fn reduce(&mut self) -> Result<()> {
        let (args, callee) = (self.pop()?, self.pop()?);
        let Object::Tuple(args) = args else { return Err(self.error("a call without a tuple of arguments")) };
        let args = self.p.items(args).to_vec();
        let made = match (callee, &args[..]) {
            (Object::Global(Global::OrderedDict), []) => return self.make(Object::Dict, vec![]),
            (Object::Global(Global::OrderedDict), [Object::List(pairs)]) => {
                let mut items = vec![];
                for pair in self.p.items(*pairs) {
                    match pair {
                        Object::List(id) | Object::Tuple(id) if self.p.items(*id).len() == 2 => {
                            items.extend_from_slice(self.p.items(*id));
                        }
                        _ => return Err(self.error("an ordered dict of what are no pairs")),
                    }
                }
                return self.make(Object::Dict, items);
            }
            (Object::Global(Global::Set | Global::Size), [items @ (Object::List(_) | Object::Tuple(_))]) => *items,
            (Object::Global(Global::RebuildParameter), [tensor @ Object::Tensor(_), ..]) => *tensor,
            (Object::Global(Global::RebuildTensor), [storage, offset, size, strides, rest @ ..]) => {
                let Object::Storage(storage) = *storage else { return Err(self.error("a tensor of no storage")) };
                let storage = self.p.storages[storage as usize];
                // The newer form names its dtype fourth to last: gradient, hooks, dtype.
                let stored = match rest {
                    [_, _, Object::Global(Global::DType(stored)), ..] => *stored,
                    _ => storage.stored,
                };
                let (size, strides) = (self.sizes(*size)?, self.sizes(*strides)?);
                if size.len() != strides.len() {
                    return Err(self.error(format!("a tensor of {} sizes and {} strides", size.len(), strides.len())));
                }
                let offset = self.size(*offset)?;
                self.p.tensors.push(TensorRef { storage, stored, at: self.op, offset, size, strides });
                Object::Tensor(self.p.tensors.len() as u32 - 1)
            }
            (Object::Global(name), _) => return Err(self.error(format!("a call of {name:?} with other arguments"))),
            _ => return Err(self.error("a call of what is no name")),
        };
        self.stack.push(made);
        Ok(())
    }

    fn size(&self, object: Object) -> Result<usize> {
        match object {
            Object::Int(n) if n >= 0 => Ok(n as usize),
            other => Err(self.error(format!("{other:?} is no size"))),
        }
    }

    fn sizes(&self, object: Object) -> Result<Vec<usize>> {
        let (Object::Tuple(id) | Object::List(id)) = object else { return Err(self.error("sizes are no tuple")) };
        let items = self.p.items(id);
        if items.len() > 64 {
            return Err(self.error(format!("a tensor of {} dims; at most 64 are read", items.len())));
        }
        items.iter().map(|&n| self.size(n)).collect()
    }

    /// What is outside of the pickle: `("storage", type, key, device, count)`, and in old files where it is viewed.
    fn storage(&mut self) -> Result<()> {
        let Object::Tuple(id) = self.pop()? else { return Err(self.error("an outside object that is no storage")) };
        let [
            Object::Text(kind),
            Object::Global(Global::Storage(stored)),
            Object::Text(key),
            _,
            Object::Int(count),
            view @ ..,
        ] = self.p.items(id)
        else {
            return Err(self.error("an outside object that is no storage"));
        };
        let (stored, key, count) = (*stored, *key, u64::try_from(*count).ok());
        let (Some(count), "storage") = (count, self.p.text(*kind)) else {
            return Err(self.error("an outside object that is no storage"));
        };
        if view.iter().any(|v| *v != Object::None) {
            return Err(self.error("a view of a storage, as PyTorch before 0.4 wrote it"));
        }
        self.stack.push(Object::Storage(self.p.storages.len() as u32));
        self.p.storages.push(StorageRef { stored, key, count });
        Ok(())
    }
}
