//! Content-addressed artifact store over a sled's M.2 datasets.
