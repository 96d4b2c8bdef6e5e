//! Named points at which a test can hold or fail a running process.
