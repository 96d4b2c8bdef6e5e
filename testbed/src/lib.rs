//! Multi-sled clusters on one machine: start, stop, break, watch.
