//! One operator at a time writes: who that is stands in a Lease.
