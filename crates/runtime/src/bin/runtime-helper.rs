//! The helper alone, for tests: what `r8s runtime-create …` is in the real binary.

fn main() {
    std::process::exit(runtime::helper_main(std::env::args_os().skip(1)));
}
