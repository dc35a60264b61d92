//! What the system says of this process's memory. Of the standard library alone, as the benchmark's peers compile this
//! file too, without the rest.

/// The most memory that this process has held at once, and what it holds now, in bytes: code, files that are mapped
/// and looked at, all. `None` where the system does not tell, which is all but Linux.
pub fn resident() -> Option<(u64, u64)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    Some((field(&status, "VmHWM:")?, field(&status, "VmRSS:")?))
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn memory_is_read_from_the_status() {
        let status = "Name:\tx\nVmHWM:\t  2048 kB\nVmRSS:\t     4 kB\n";
        assert_eq!((field(status, "VmHWM:"), field(status, "VmRSS:")), (Some(2 << 20), Some(4096)));
        assert_eq!((field(status, "VmSwap:"), field("VmRSS: x kB", "VmRSS:")), (None, None));
    }
}
