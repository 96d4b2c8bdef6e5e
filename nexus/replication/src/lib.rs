//! The replication planner: which sled gets which artifact from where.
