//! The library inside somebody else's rayon pool: a thread that waits for our threads may be given another task of that
//! pool, which calls the library again on the same thread.

use rayon::prelude::*;
use rushlight::{DType, Result, Tensor, grad, no_grad};

#[test]
fn random_numbers_in_tasks_of_another_pool() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
    let sizes: Result<Vec<usize>> = pool.install(|| {
        (0..100).into_par_iter().map(|_| Ok(Tensor::randn(200_000, DType::F32)?.dropout(0.5)?.numel())).collect()
    });
    assert_eq!(sizes.unwrap(), [200_000; 100]);
}

#[test]
fn one_graph_walked_in_tasks_of_another_pool() {
    let x = Tensor::ones(200_000, DType::F32).unwrap().requires_grad().unwrap();
    let y = x.exp().unwrap().mul(&x).unwrap().sum(..).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
    let count: usize = pool.install(|| (0..60).into_par_iter().map(|_| grad(&[&y], &[&x], false).unwrap().len()).sum());
    assert_eq!(count, 60);
}

/// What `no_grad` switches off is off for its own closure alone.
#[test]
fn no_grad_does_not_leak_into_other_tasks() {
    let x = Tensor::ones(200_000, DType::F32).unwrap();
    let w = x.requires_grad().unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let tracked: Vec<bool> = pool.install(|| {
        (0..100)
            .into_par_iter()
            .map(|i| if i % 2 == 0 { no_grad(|| w.exp().unwrap().is_tracked()) } else { w.exp().unwrap().is_tracked() })
            .collect()
    });
    assert!(tracked.iter().enumerate().all(|(i, &tracked)| tracked == (i % 2 == 1)), "{tracked:?}");
}
