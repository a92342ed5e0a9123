//! How a pod changes: pod JSON in, JSON patch out. Pure.
