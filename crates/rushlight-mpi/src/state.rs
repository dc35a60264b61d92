//! What ranks give each other besides gradients: text, states, and the parts of parameters that each has updated.

use rushlight::nn::{Module, StateDict};
use rushlight::optim::{Optimizer, Shard};
use rushlight::{DType, Error, Result, Tensor};

use crate::{BUCKET, World};

impl World {
    /// Until all ranks have come here. A collective.
    pub fn barrier(&self) -> Result<()> {
        self.start(|link| link.barrier()).wait()
    }

    /// The text that rank 0 has. A collective.
    pub fn broadcast(&self, text: &str) -> Result<String> {
        let mut bytes = text.as_bytes().to_vec();
        let job = move |link: &mut crate::link::Link| {
            let mut length = [bytes.len() as u64];
            link.broadcast(&mut length);
            bytes.resize(length[0] as usize, 0);
            link.broadcast(&mut bytes);
            bytes
        };
        String::from_utf8(self.start(job).wait()?).map_err(|e| Error::invalid("mpi", e.to_string()))
    }

    /// Whether all ranks have the text that rank 0 has: `None`, or the first that has another. A collective.
    pub fn differs(&self, text: &str) -> Result<Option<usize>> {
        let mut other = vec![0.0; self.size()];
        other[self.rank()] = if self.broadcast(text)? == text { 0.0 } else { 1.0 };
        Ok(self.sum(other)?.iter().position(|n| *n > 0.0))
    }

    /// The sums over all ranks. A collective.
    pub fn sum(&self, values: Vec<f64>) -> Result<Vec<f64>> {
        self.start(move |link| link.sum(&values)).wait()
    }

    /// The tensors that rank 0 has, of f32 or i64. A collective.
    pub fn broadcast_state(&self, state: &StateDict) -> Result<StateDict> {
        let describe = |(name, t): (&String, &Tensor)| (name.clone(), (t.dtype() == DType::I64, t.dims().to_vec()));
        let names: Vec<(String, (bool, Vec<usize>))> = state.iter().map(describe).collect();
        let bad = |e: serde_json::Error| Error::invalid("mpi", e.to_string());
        let list = self.broadcast(&serde_json::to_string(&names).map_err(bad)?)?;
        let names: Vec<(String, (bool, Vec<usize>))> = serde_json::from_str(&list).map_err(bad)?;
        let mut out = StateDict::new();
        for (name, (whole_numbers, dims)) in names {
            let mine = if self.rank() == 0 { state.get(&name) } else { None };
            let n = dims.iter().product();
            let tensor = if whole_numbers {
                let mut values = mine.map_or(Ok(vec![0i64; n]), |t| t.to_vec())?;
                self.start(move |link| {
                    link.broadcast(&mut values);
                    values
                })
                .wait()
                .and_then(|v| Tensor::from_vec(v, dims))?
            } else {
                let mut values = mine.map_or(Ok(vec![0f32; n]), |t| t.to_vec())?;
                self.start(move |link| {
                    link.broadcast(&mut values);
                    values
                })
                .wait()
                .and_then(|v| Tensor::from_vec(v, dims))?
            };
            out.insert(name, tensor);
        }
        Ok(out)
    }

    /// The part of every tensor that is this rank's to update, where optimizer states are shared out.
    pub fn shard(&self) -> Result<Shard> {
        Shard::new(self.rank(), self.size())
    }

    /// How many of `n` elements are each rank's.
    fn counts(&self, n: usize) -> Result<Vec<i32>> {
        let part = |rank| Ok(Shard::new(rank, self.size())?.range(n).len());
        let too_many = |_| Error::invalid("mpi", format!("{n} elements are more than MPI counts"));
        (0..self.size()).map(|rank| part(rank).and_then(|n| i32::try_from(n).map_err(too_many))).collect()
    }

    /// Gives every rank the parts of the parameters that the others have updated. A collective.
    pub fn exchange(&self, model: &mut impl Module) -> Result<()> {
        let shard = self.shard()?;
        let mut groups: Vec<Vec<(String, Tensor)>> = vec![];
        let mut room = 0;
        for (name, p) in model.named_parameters().into_iter().filter(|(_, p)| p.is_tracked()) {
            if p.numel() > room {
                groups.push(vec![]);
                room = BUCKET * self.size();
            }
            room = room.saturating_sub(p.numel());
            groups.last_mut().into_iter().for_each(|g| g.push((name.clone(), p.detach())));
        }
        let mut sent = vec![];
        for group in &groups {
            let (mut part, mut counts) = (vec![], vec![0; self.size()]);
            for (_, p) in group {
                part.extend(shard.of(p)?.to_vec::<f32>()?);
                counts.iter_mut().zip(self.counts(p.numel())?).for_each(|(sum, n)| *sum += n);
            }
            let mut starts = vec![0];
            counts.iter().for_each(|n| starts.push(starts[starts.len() - 1] + *n as usize));
            sent.push((starts, self.start(move |link| link.all_gather(&part, &counts))));
        }
        let mut state = StateDict::new();
        for (group, (mut next, all)) in groups.into_iter().zip(sent) {
            let all = all.wait()?;
            for (name, p) in group {
                let mut values = Vec::with_capacity(p.numel());
                for (next, n) in next.iter_mut().zip(self.counts(p.numel())?) {
                    values.extend_from_slice(&all[*next..*next + n as usize]);
                    *next += n as usize;
                }
                state.insert(name, Tensor::from_vec(values, p.dims().to_vec())?);
            }
        }
        model.load_state_dict_partial(&state)
    }

    /// The state of an optimizer of which each rank has a part, as that of one that has all: for rank 0, to be saved.
    /// A collective.
    pub fn whole_state(&self, optimizer: &Optimizer, model: &impl Module) -> Result<Option<StateDict>> {
        let mut out = StateDict::new();
        let shapes: StateDict = model.named_parameters().into_iter().collect();
        for (name, part) in optimizer.state_dict()? {
            let parameter = name.rsplit_once('.').map_or("", |(parameter, _)| parameter);
            if part.dtype() == DType::I64 {
                out.insert(name, part);
            } else if let Some(p) = shapes.get(parameter) {
                let (values, counts) = (part.to_vec::<f32>()?, self.counts(p.numel())?);
                if let Some(all) = self.start(move |link| link.gather(&values, &counts)).wait()? {
                    out.insert(name, Tensor::from_vec(all, p.dims().to_vec())?);
                }
            }
        }
        Ok((self.rank() == 0).then_some(out))
    }
}
