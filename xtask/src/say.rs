//! What a command says on stdout. A reader that has seen enough (`… | head -1`) is no error and ends nothing: what the
//! command does is done whether somebody reads about it or not.

/// Prints a line, as `println!` does; nothing happens if nobody reads it.
macro_rules! say {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($argument)*);
    }};
}
