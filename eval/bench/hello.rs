//! The least that a program can do: what `start.py` measures cold starts against.

fn main() {
    println!("one line");
}
