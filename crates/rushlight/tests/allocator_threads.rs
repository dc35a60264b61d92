//! Buffers that many threads take, fill, hand on and free. A process of its own, as it looks at the allocator's figures.

use std::sync::mpsc::sync_channel;
use std::thread;

use rushlight::{DType, Tensor, memory};

const THREADS: usize = 6;
const ROUNDS: usize = 400;

/// Sizes of all kinds: of lists per thread, of shared lists, and spans.
fn size(random: u64) -> usize {
    let most = [1 << 8, 1 << 14, 1 << 17, 1 << 20][random as usize % 4];
    1 + (random >> 8) as usize % most
}

/// No two threads own the same bytes, and when all are gone the figures are what they were before.
#[test]
fn threads_share_memory_and_not_buffers() {
    let before = memory::stats().in_use;
    memory::reset_peak();
    let (send, receive): (Vec<_>, Vec<_>) = (0..THREADS).map(|_| sync_channel::<(Tensor, f32)>(8)).unzip();
    let threads: Vec<_> = (receive.into_iter().enumerate())
        .map(|(number, mine)| {
            let send = send.clone();
            thread::spawn(move || {
                let mut random = number as u64 + 1;
                let mut kept: Vec<(Tensor, f32)> = vec![];
                let check = |(t, value): &(Tensor, f32)| {
                    let all = t.to_vec::<f32>().unwrap();
                    assert!(all.iter().all(|x| x == value), "thread {number}: a buffer of {} changed", all.len());
                };
                for round in 0..ROUNDS {
                    random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    let value = (number * ROUNDS + round) as f32;
                    let made = (Tensor::full([size(random >> 20)], value.into(), DType::F32).unwrap(), value);
                    // Freed elsewhere, freed here and now, or later.
                    match random >> 60 {
                        0..8 => drop(send[(random >> 50) as usize % THREADS].try_send(made)),
                        8..11 => drop(made),
                        _ => kept.push(made),
                    }
                    mine.try_iter().for_each(|given| check(&given));
                    if kept.len() > 12 {
                        check(&kept.swap_remove((random >> 40) as usize % 12));
                    }
                    if round % 50 == number {
                        memory::clear();
                    }
                }
                kept.iter().for_each(check);
            })
        })
        .collect();
    // No scope: it does not wait for what threads do at their end, which is to free their lists.
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    drop(send);
    let stats = memory::stats();
    assert_eq!(stats.in_use, before);
    assert!(stats.peak > before && stats.cached < 1 << 40, "{stats:?}");
    memory::clear();
    let stats = memory::stats();
    assert_eq!((stats.in_use, stats.cached), (before, 0), "all that is free is joined, and given back");
}
