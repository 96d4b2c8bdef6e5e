//! What commands say to whoever started them.

/// A line on standard output. Whoever has read enough of it closes it, and that is no error.
macro_rules! say {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($argument)*);
    }};
}
