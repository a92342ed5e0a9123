//! Events that people see in `kubectl describe`.
