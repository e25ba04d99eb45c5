//! The figures of the walking skeleton.
fn main() {}
