//! placeholder until the generator lands
use crate::{Element, Float};
use std::cell::RefCell;
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Generator {
    s: u64,
}
#[allow(missing_docs)]
impl Generator {
    pub fn new(s: u64) -> Self {
        Generator { s }
    }
    pub fn next_u64(&mut self) -> u64 {
        self.s = self.s.wrapping_add(0x9E3779B97F4A7C15);
        let mut z = self.s;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58476D1CE4E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D049BB133111EB);
        z ^ (z >> 31)
    }
    pub fn next_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
    pub(crate) fn fill_uniform<T: Float>(&mut self, out: &mut [T], low: f64, high: f64) {
        for o in out {
            *o = T::from_f64(low + (high - low) * self.next_f64());
        }
    }
    pub(crate) fn fill_normal<T: Float>(&mut self, out: &mut [T], mean: f64, std: f64) {
        for o in out {
            let (u, v) = (1.0 - self.next_f64(), self.next_f64());
            *o = T::from_f64(mean + std * (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos());
        }
    }
    pub(crate) fn fill_bernoulli<T: Element>(&mut self, out: &mut [T], p: f64) {
        for o in out {
            *o = T::from_f64((self.next_f64() < p) as u8 as f64);
        }
    }
    pub(crate) fn fill_randint(&mut self, out: &mut [i64], low: i64, high: i64) {
        for o in out {
            *o = low + (self.next_u64() % (high - low) as u64) as i64;
        }
    }
    pub fn permutation(&mut self, n: usize) -> Vec<i64> {
        let mut p: Vec<i64> = (0..n as i64).collect();
        for i in (1..n).rev() {
            let j = (self.next_u64() % (i as u64 + 1)) as usize;
            p.swap(i, j);
        }
        p
    }
}
thread_local! { static G: RefCell<Generator> = const { RefCell::new(Generator { s: 0 }) }; }
#[allow(missing_docs)]
pub fn manual_seed(s: u64) {
    G.set(Generator::new(s));
}
#[allow(missing_docs)]
pub fn state() -> Generator {
    G.with_borrow(|g| g.clone())
}
#[allow(missing_docs)]
pub fn set_state(g: Generator) {
    G.set(g)
}
pub(crate) fn with<R>(f: impl FnOnce(&mut Generator) -> R) -> R {
    G.with_borrow_mut(f)
}
