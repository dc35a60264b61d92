//! What attention has seen: the keys and values of the tokens before, kept so that a new token costs one row of each.
//!
//! Without a cache the `n`-th token of a text costs the attention of `n` tokens; with it, the products of one token and a
//! look at `n` keys. Rows are written in place into tensors of `[B, heads, capacity, dim]` that are made once, and
//! attention reads its keys there, so nothing that is kept is copied as a text grows.

use crate::autograd::no_gradient;
use crate::dtype::each_dtype;
use crate::{DType, Error, Result, Tensor};

const OP: &str = "KvCache";

/// The keys and values of one attention, as long as the text so far. Their sizes and dtype are those of the first;
/// [`AttentionCache::keep_as`] keeps them in another dtype.
///
/// ```
/// # use rushlight::{DType, Tensor, nn::AttentionCache};
/// let mut cache = AttentionCache::new(8);
/// let (prompt, token) = (Tensor::randn([1, 2, 5, 4], DType::F32)?, Tensor::randn([1, 2, 1, 4], DType::F32)?);
/// cache.append(&prompt, &prompt)?;
/// let [keys, values] = cache.append(&token, &token)?;
/// assert_eq!((keys.dims(), values.dims(), cache.len()), (&[1, 2, 6, 4][..], &[1, 2, 6, 4][..], 6));
/// assert!(cache.append(&prompt, &prompt).is_err());
/// # Ok::<(), rushlight::Error>(())
/// ```
#[derive(Debug)]
pub struct AttentionCache {
    /// Keys and values, `[B, heads, capacity, dim]` each; only the first `len` places mean anything.
    kept: Option<[Tensor; 2]>,
    len: usize,
    capacity: usize,
    /// What they are kept as, where not as they come, and what they came as.
    keep: Option<DType>,
    shown: DType,
}

impl AttentionCache {
    /// For up to `capacity` places.
    pub fn new(capacity: usize) -> AttentionCache {
        AttentionCache { kept: None, len: 0, capacity, keep: None, shown: DType::F32 }
    }

    /// Keeps them as `dtype`: f16 takes half the memory of f32, and rounds each number by at most 2⁻¹¹ of itself. What is
    /// given out is of the dtype that came in, made anew at each step from all that is kept, which takes time that grows
    /// with the text. To be called before the first is kept. Errors: not a float dtype.
    pub fn keep_as(self, dtype: DType) -> Result<AttentionCache> {
        if !dtype.is_float() {
            return Err(Error::dtype(OP, dtype, "expected a float dtype"));
        }
        Ok(AttentionCache { keep: Some(dtype), ..self })
    }

    /// The places that are kept.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The places there is room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Keeps the keys and values of the next places, `[B, heads, T, dim]` each, and gives those of all so far, as views.
    ///
    /// In place, unless a view from before is still held somewhere: then in a copy, and the view stays as it was.
    ///
    /// Errors: no room; other sizes or dtypes than before; tensors that ask for a gradient, outside of
    /// [`no_grad`](crate::no_grad).
    pub fn append(&mut self, keys: &Tensor, values: &Tensor) -> Result<[Tensor; 2]> {
        let mut new = untracked(keys, values)?;
        self.shown = keys.dtype();
        if let Some(dtype) = self.keep {
            new = [new[0].to_dtype(dtype)?, new[1].to_dtype(dtype)?];
        }
        let t = keys.dims()[2];
        let len = self.len.saturating_add(t);
        if len > self.capacity {
            let message = format!("{t} places do not fit behind {} in a capacity of {}", self.len, self.capacity);
            return Err(Error::invalid(OP, message));
        }
        let continues = |(kept, new): (&Tensor, &Tensor)| {
            kept.dtype() == new.dtype() && *kept.shape() == new.shape().with(2, self.capacity)
        };
        match &self.kept {
            Some(kept) if kept.iter().zip(&new).all(continues) => {}
            Some([k, v]) if self.len > 0 => {
                let (old, new) = (format!("{} and {}", k.shape(), v.shape()), [keys, values].map(Tensor::shape));
                let message = format!("keys {} and values {} do not continue caches of {old}", new[0], new[1]);
                return Err(Error::invalid(OP, message));
            }
            _ => self.kept = Some([room(&new[0], self.capacity)?, room(&new[1], self.capacity)?]),
        }
        let kept = self.kept.iter_mut().flatten();
        kept.zip(&new).try_for_each(|(kept, new)| kept.overwrite(OP, 2, self.len, new))?;
        self.len = len;
        Ok(self.get()?.unwrap_or(new))
    }

    /// The keys and values that are kept, `[B, heads, len, dim]` each, as views, unless they are kept in another dtype.
    pub fn get(&self) -> Result<Option<[Tensor; 2]>> {
        match (self.views()?, self.keep) {
            (Some([keys, values]), Some(_)) => Ok(Some([keys.to_dtype(self.shown)?, values.to_dtype(self.shown)?])),
            (views, _) => Ok(views),
        }
    }

    fn views(&self) -> Result<Option<[Tensor; 2]>> {
        let Some([keys, values]) = self.kept.as_ref().filter(|_| self.len > 0) else { return Ok(None) };
        Ok(Some([keys.narrow(2, 0, self.len)?, values.narrow(2, 0, self.len)?]))
    }

    /// The keys and values that are kept, or, the first time, those that `make` gives, however many they are: for
    /// attention to something that stays as it is from step to step, such as what an encoder made.
    pub fn get_or_make(&mut self, make: impl FnOnce() -> Result<[Tensor; 2]>) -> Result<[Tensor; 2]> {
        if let Some(kept) = self.get()? {
            return Ok(kept);
        }
        let [keys, values] = make()?;
        let mut made = untracked(&keys, &values)?;
        self.shown = keys.dtype();
        if let Some(dtype) = self.keep {
            made = [made[0].to_dtype(dtype)?, made[1].to_dtype(dtype)?];
        }
        (self.len, self.capacity) = (keys.dims()[2], keys.dims()[2]);
        self.kept = Some(made);
        Ok(self.get()?.unwrap_or([keys, values]))
    }

    /// Forgets all but the first `len` places.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Forgets everything, and keeps the memory for what comes.
    pub fn reset(&mut self) {
        self.len = 0;
    }

    /// Sample `i` continues what was sample `parents[i]`, as the beams of a search do; their number may change.
    ///
    /// Errors: `parents` is not 1-d i64, or names a sample that is not there; nothing is changed then.
    pub fn reorder(&mut self, parents: &Tensor) -> Result<()> {
        let Some(kept) = self.views()? else { return Ok(()) };
        let same = Tensor::arange(0.0, kept[0].dims()[0] as f64, 1.0, DType::I64)?;
        if parents.dtype() == DType::I64 && parents.shape() == same.shape() && parents.eq(&same)?.all(..)?.item()? {
            return Ok(());
        }
        let moved = kept.each_ref().map(|kept| {
            let rows = kept.index_select(0, parents)?;
            if self.len == self.capacity {
                return Ok(rows);
            }
            let mut out = room(&rows, self.capacity)?;
            out.overwrite(OP, 2, 0, &rows)?;
            Ok::<_, Error>(out)
        });
        let [keys, values] = moved;
        self.kept = Some([keys?, values?]);
        Ok(())
    }
}

/// Keys and values that can be kept.
fn untracked(keys: &Tensor, values: &Tensor) -> Result<[Tensor; 2]> {
    let ([b, h, t, _], [vb, vh, vt, _]) = (keys.dims_of(OP)?, values.dims_of(OP)?);
    if [b, h, t] != [vb, vh, vt] {
        let message = format!("keys {} and values {} differ beside the last dim", keys.shape(), values.shape());
        return Err(Error::invalid(OP, message));
    }
    Ok([no_gradient(OP, keys.detach(), &[keys])?, no_gradient(OP, values.detach(), &[values])?])
}

/// Room for `capacity` places like these, of arbitrary contents: what was not written to is not read.
fn room(rows: &Tensor, capacity: usize) -> Result<Tensor> {
    let shape = rows.shape().with(2, capacity);
    each_dtype!(rows.dtype(), T => Tensor::build(OP, shape, |_: &mut [T]| ()))
}

/// The caches of one layer.
#[derive(Debug)]
pub struct LayerCache {
    /// Of the attention to the text itself.
    pub own: AttentionCache,
    /// Of the attention to what an encoder made, if there is one: made once.
    pub memory: AttentionCache,
}

/// The caches of all layers of a model that writes token by token.
///
/// ```
/// use rushlight::nn::{AttentionMasks, KvCache, TransformerEncoder, TransformerOptions};
/// use rushlight::{DType, Tensor, no_grad};
///
/// let options = TransformerOptions { dropout: 0.0, ..Default::default() };
/// let model = TransformerEncoder::new(2, 8, 2, &options)?;
/// let causal = AttentionMasks { causal: true, ..Default::default() };
/// let x = Tensor::randn([1, 5, 8], DType::F32)?;
/// no_grad(|| {
///     let whole = model.forward(&x, &causal)?;
///     let mut cache = KvCache::new(2, 16);
///     model.forward_cached(&x.narrow(1, 0, 4)?, &causal, &mut cache)?; // the prompt
///     let last = model.forward_cached(&x.narrow(1, 4, 1)?, &causal, &mut cache)?; // a token
///     assert_eq!(cache.len(), 5);
///     assert!(last.sub(&whole.narrow(1, 4, 1)?)?.abs()?.amax(..)?.item::<f32>()? < 1e-5);
///     Ok::<(), rushlight::Error>(())
/// })?;
/// # Ok::<(), rushlight::Error>(())
/// ```
#[derive(Debug)]
pub struct KvCache {
    layers: Vec<LayerCache>,
}

impl KvCache {
    /// For so many layers, and up to `capacity` places.
    pub fn new(layers: usize, capacity: usize) -> KvCache {
        let layer = |_| LayerCache { own: AttentionCache::new(capacity), memory: AttentionCache::new(0) };
        KvCache { layers: (0..layers).map(layer).collect() }
    }

    /// Keeps the keys and values of the text as `dtype`: see [`AttentionCache::keep_as`].
    ///
    /// ```
    /// use rushlight::nn::KvCache;
    /// use rushlight::{DType, Tensor};
    ///
    /// let mut cache = KvCache::new(1, 8).keep_as(DType::F16)?;
    /// let x = Tensor::randn([1, 2, 3, 4], DType::F32)?;
    /// let [keys, _] = cache.layers(1)?[0].own.append(&x, &x)?;
    /// assert!(keys.sub(&x)?.abs()?.le(&x.abs()?.mul(1.0 / 2048.0)?)?.all(..)?.item::<bool>()?);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// Errors: not a float dtype.
    pub fn keep_as(self, dtype: DType) -> Result<KvCache> {
        let layer = |l: LayerCache| Ok(LayerCache { own: l.own.keep_as(dtype)?, ..l });
        Ok(KvCache { layers: self.layers.into_iter().map(layer).collect::<Result<_>>()? })
    }

    /// The places that are kept: the length of the text so far.
    pub fn len(&self) -> usize {
        self.layers.last().map_or(0, |l| l.own.len())
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The places there is room for.
    pub fn capacity(&self) -> usize {
        self.layers.first().map_or(0, |l| l.own.capacity())
    }

    /// The caches of the layers of a model that has `count` of them. Errors: another number.
    pub fn layers(&mut self, count: usize) -> Result<&mut [LayerCache]> {
        if self.layers.len() != count {
            let message = format!("a cache of {} layers for a model of {count}", self.layers.len());
            return Err(Error::invalid(OP, message));
        }
        Ok(&mut self.layers)
    }

    /// Forgets all but the first `len` places of the text: to take back tokens, or after an error in the middle of a
    /// step, which leaves some layers longer than others.
    pub fn truncate(&mut self, len: usize) {
        self.layers.iter_mut().for_each(|l| l.own.truncate(len));
    }

    /// Forgets the text and what it is about, and keeps the memory for the next.
    pub fn reset(&mut self) {
        self.layers.iter_mut().flat_map(|l| [&mut l.own, &mut l.memory]).for_each(AttentionCache::reset);
    }

    /// Sample `i` continues what was sample `parents[i]`: see [`AttentionCache::reorder`].
    pub fn reorder(&mut self, parents: &Tensor) -> Result<()> {
        self.layers.iter_mut().flat_map(|l| [&mut l.own, &mut l.memory]).try_for_each(|c| c.reorder(parents))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_as_f16_is_given_as_it_came() -> Result<()> {
        let mut cache = AttentionCache::new(6).keep_as(DType::F16)?;
        let x = Tensor::randn([2, 1, 4, 8], DType::F32)?;
        cache.append(&x.narrow(2, 0, 3)?, &x.narrow(2, 0, 3)?)?;
        let [keys, values] = cache.append(&x.narrow(2, 3, 1)?, &x.narrow(2, 3, 1)?)?;
        let rounded = x.to_dtype(DType::F16)?.to_dtype(DType::F32)?;
        for got in [&keys, &values] {
            assert_eq!((got.dtype(), got.to_vec::<f32>()?), (DType::F32, rounded.to_vec::<f32>()?));
        }
        assert!(cache.kept.iter().flatten().all(|kept| kept.dtype() == DType::F16));
        // Still f16 when samples change places, and the text is made shorter.
        cache.reorder(&Tensor::new([1i64, 1])?)?;
        cache.truncate(2);
        assert!(cache.kept.iter().flatten().all(|kept| kept.dtype() == DType::F16));
        let [keys, _] = cache.get()?.ok_or_else(|| Error::invalid(OP, "nothing is kept"))?;
        let wanted = rounded.narrow(0, 1, 1)?.narrow(2, 0, 2)?.expand([2, 1, 2, 8])?;
        assert_eq!(keys.to_vec::<f32>()?, wanted.to_vec::<f32>()?);
        let mut made = AttentionCache::new(0).keep_as(DType::F16)?;
        let [keys, _] = made.get_or_make(|| Ok([x.clone(), x.clone()]))?;
        assert_eq!(keys.to_vec::<f32>()?, rounded.to_vec::<f32>()?);
        assert!(AttentionCache::new(1).keep_as(DType::I64).is_err());
        Ok(())
    }
    use crate::nn::{AttentionMasks, MultiHeadAttention};
    use crate::no_grad;

    #[test]
    fn tokens_are_written_in_place() -> Result<()> {
        let attention = MultiHeadAttention::new(8, 2, &Default::default())?;
        let masks = AttentionMasks { causal: true, ..Default::default() };
        let mut cache = AttentionCache::new(10);
        let mut places = vec![];
        for n in [3, 1, 1, 4, 1] {
            let x = Tensor::randn([2, n, 8], DType::F32)?;
            no_grad(|| attention.forward_cached(&x, &masks, &mut cache))?;
            let kept = cache.kept.as_ref().ok_or_else(|| Error::invalid(OP, "nothing is kept"))?;
            places.push([kept[0].raw::<f32>(OP)?.as_ptr(), kept[1].raw::<f32>(OP)?.as_ptr()]);
        }
        assert!(places.iter().all(|p| *p == places[0]), "{places:?}");
        Ok(())
    }
}
