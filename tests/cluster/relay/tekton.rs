//! Tekton's runs where Relay wraps their pods, beside the same runs where it does not.

mod compare;
mod durations;
mod pipelines;
mod shapes;
mod sidecars;
mod steps;
