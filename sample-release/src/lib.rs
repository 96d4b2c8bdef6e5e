//! Makes really signed releases, good and deliberately bad ones.
