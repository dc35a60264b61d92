//! A naive reference: shape, f64 values and loops over indices; and random tensors in random layouts.
#![allow(dead_code)] // each test file uses its part

use rushlight::{DType, Tensor};

/// SplitMix64: small, seeded, independent of the library's generator.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    /// Up to `rank` dims of 0 to 4, mostly not empty.
    pub fn shape(&mut self, rank: usize) -> Vec<usize> {
        (0..self.below(rank + 1)).map(|_| if self.chance(12) { 0 } else { 1 + self.below(4) }).collect()
    }

    /// A multiple of 1/2 in [−3, 3]: sums are exact, and there are ties and zeros.
    pub fn value(&mut self) -> f64 {
        self.below(13) as f64 / 2.0 - 3.0
    }

    pub fn some_dims(&mut self, rank: usize) -> Vec<usize> {
        (0..rank).filter(|_| self.chance(2)).collect()
    }

    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut p: Vec<usize> = (0..n).collect();
        (1..n).rev().for_each(|i| p.swap(i, self.below(i + 1)));
        p
    }
}

/// Shape and values in row-major order.
#[derive(Clone, Debug)]
pub struct Naive {
    pub shape: Vec<usize>,
    pub data: Vec<f64>,
}

/// Every index of `shape` in row-major order.
pub fn indices(shape: &[usize]) -> Vec<Vec<usize>> {
    shape.iter().fold(vec![vec![]], |all, &d| {
        all.iter().flat_map(|i: &Vec<usize>| (0..d).map(|k| [i.as_slice(), &[k]].concat())).collect()
    })
}

impl Naive {
    pub fn from_fn(shape: &[usize], f: impl FnMut(&[usize]) -> f64) -> Naive {
        let mut f = f;
        Naive { shape: shape.to_vec(), data: indices(shape).iter().map(|i| f(i)).collect() }
    }

    pub fn of(t: &Tensor) -> Naive {
        Naive { shape: t.dims().to_vec(), data: t.to_f64_vec().unwrap() }
    }

    pub fn at(&self, index: &[usize]) -> f64 {
        let mut place = 0;
        for (&i, &d) in index.iter().zip(&self.shape) {
            assert!(i < d);
            place = place * d + i;
        }
        self.data[place]
    }

    /// The value that broadcasting to a larger shape puts at `index`.
    pub fn broadcast_at(&self, index: &[usize]) -> f64 {
        let lead = index.len() - self.shape.len();
        let own: Vec<usize> =
            index[lead..].iter().zip(&self.shape).map(|(&i, &d)| if d == 1 { 0 } else { i }).collect();
        self.at(&own)
    }

    /// Reduces `dims`, which go away, by `f` of the list of values in row-major order.
    pub fn reduce(&self, dims: &[usize], f: impl Fn(&[f64]) -> f64) -> Naive {
        let kept: Vec<usize> = (0..self.shape.len()).filter(|d| !dims.contains(d)).collect();
        let shape: Vec<usize> = kept.iter().map(|&d| self.shape[d]).collect();
        Naive::from_fn(&shape, |out| {
            let all = indices(&self.shape);
            let mine = all.iter().filter(|i| kept.iter().zip(out).all(|(&d, &o)| i[d] == o));
            f(&mine.map(|i| self.at(i)).collect::<Vec<_>>())
        })
    }
}

/// The same shape and values (NaN equal to NaN), within `tolerance` times the value.
#[track_caller]
pub fn assert_close(t: &Tensor, expected: &Naive, tolerance: f64, what: &str) {
    assert_eq!(t.dims(), expected.shape, "{what}: shape");
    for (i, (a, e)) in t.to_f64_vec().unwrap().iter().zip(&expected.data).enumerate() {
        let same = a == e || (a.is_nan() && e.is_nan()) || (a - e).abs() <= tolerance * (1.0 + e.abs());
        assert!(same, "{what}: element {i} of shape {:?} is {a}, expected {e}", expected.shape);
    }
}

#[track_caller]
pub fn assert_same(t: &Tensor, expected: &Naive, what: &str) {
    assert_close(t, expected, 0.0, what);
}

/// A tensor of `shape` in a random layout: dims permuted, cut from larger ones, stepped, flipped, expanded.
pub fn tensor(rng: &mut Rng, shape: &[usize], dtype: DType) -> Tensor {
    let order = rng.permutation(shape.len());
    let modes: Vec<usize> = shape.iter().map(|_| rng.below(8)).collect();
    let base: Vec<usize> = (0..shape.len())
        .map(|d| match (modes[order[d]], shape[order[d]]) {
            (0, n) => n + 3,
            (1, n) => n * 2,
            (2, n) if n > 0 => 1,
            (_, n) => n,
        })
        .collect();
    let values: Vec<f64> = indices(&base).iter().map(|_| rng.value()).collect();
    let mut t = Tensor::from_vec(values, base).unwrap().to_dtype(dtype).unwrap();
    for d in 0..shape.len() {
        let n = shape[order[d]];
        t = match modes[order[d]] {
            0 => t.narrow(d, 2, n).unwrap(),
            1 => t.slice_step(d, 1, i64::MAX, 2).unwrap(),
            2 if n > 0 => t.expand(t.shape().with(d, n)).unwrap(),
            3 => t.flip(d).unwrap(),
            _ => t,
        };
    }
    let mut back = vec![0; shape.len()];
    order.iter().enumerate().for_each(|(to, &from)| back[from] = to);
    let t = t.permute(&back).unwrap();
    assert_eq!(t.dims(), shape);
    t
}

/// As [`tensor`], f64, with values uniform in (low, high) and no two the same place.
pub fn smooth(rng: &mut Rng, shape: &[usize], low: f64, high: f64) -> Tensor {
    let order = rng.permutation(shape.len());
    let base: Vec<usize> = (0..shape.len()).map(|d| shape[order[d]] * 2).collect();
    let values =
        indices(&base).into_iter().map(|_| low + (high - low) * (rng.below(1 << 20) as f64 + 0.5) / (1 << 20) as f64);
    let mut t = Tensor::from_vec(values.collect(), base).unwrap();
    for d in 0..shape.len() {
        t = if rng.chance(2) {
            t.narrow(d, 0, shape[order[d]]).unwrap()
        } else {
            t.slice_step(d, 0, i64::MAX, 2).unwrap()
        };
        t = if rng.chance(3) { t.flip(d).unwrap() } else { t };
    }
    let mut back = vec![0; shape.len()];
    order.iter().enumerate().for_each(|(to, &from)| back[from] = to);
    t.permute(&back).unwrap()
}

/// Two shapes that broadcast together, and the result.
pub fn broadcast_shapes(rng: &mut Rng) -> (Vec<usize>, Vec<usize>, Vec<usize>) {
    let shape = rng.shape(4);
    let part = |rng: &mut Rng| -> Vec<usize> {
        let lead = if rng.chance(3) { rng.below(shape.len() + 1) } else { 0 };
        shape[lead..].iter().map(|&d| if rng.chance(3) { 1 } else { d }).collect()
    };
    let (a, b) = (part(rng), part(rng));
    let rank = a.len().max(b.len());
    let size = |s: &[usize], d: usize| (d + s.len()).checked_sub(rank).map_or(1, |d| s[d]);
    let out = (0..rank).map(|d| if size(&a, d) == 1 { size(&b, d) } else { size(&a, d) }).collect();
    (a, b, out)
}

/// The error's text.
#[track_caller]
pub fn message<T>(result: rushlight::Result<T>) -> String {
    match result {
        Ok(_) => panic!("expected an error"),
        Err(e) => e.to_string(),
    }
}
