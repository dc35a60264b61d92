//! Maps: as fast as memory is.

use super::{Row, Work, randn, step};

const N: usize = 1 << 24;
/// The bytes of one array of `N`.
const ARRAY: f64 = 4.0 * N as f64;

pub fn rows() -> Vec<Row> {
    vec![
        Row::new("ew_add_16M", Work::Copy(3.0 * ARRAY), || {
            let (x, y) = (randn([N])?, randn([N])?);
            step(move || x.add(&y))
        }),
        Row::new("ew_gelu_tanh_16M", Work::Copy(2.0 * ARRAY), || {
            let x = randn([N])?;
            step(move || x.gelu_tanh())
        }),
        Row::new("ew_exp_16M", Work::Copy(2.0 * ARRAY), || {
            let x = randn([N])?;
            step(move || x.exp())
        }),
        Row::new("ew_broadcast_add_4096x4096", Work::Copy(ARRAY), || {
            let (r, c) = (randn([4096, 1])?, randn([1, 4096])?);
            step(move || r.add(&c))
        }),
        Row::new("ew_add_1K", Work::Calls, || {
            let (x, y) = (randn([1024])?, randn([1024])?);
            step(move || x.add(&y))
        }),
    ]
}
