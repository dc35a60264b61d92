//! The `rushlight` command.

// Until a command draws.
#[allow(dead_code, unused_imports)]
mod picture;

fn main() {}
