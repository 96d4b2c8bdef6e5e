//! The storage port: durable files through named steps, on a real, a faulty or a simulated disk.
