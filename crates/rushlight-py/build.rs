//! Tells the sources which Python they are built for: its stable interface has the buffer protocol from 3.11 on.

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
}
