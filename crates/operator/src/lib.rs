//! Wraps the pods of tenants with the entrypoint.
//!
//! Intent flows one way: a `Tenant` (`api`) is observed, a pure plan says what is missing, and it is
//! applied (`tenant`); a pod that is created in a tenant's namespace comes to `webhook`, and
//! `injection` (pure) says how it changes; `audit` looks for those that did not come. `certificates` gives both sides of the webhook, and the
//! log service, the means to trust each other.

pub mod api;
pub mod audit;
pub mod certificates;
pub mod config;
pub mod events;
pub mod image;
pub mod injection;
pub mod leader;
mod lenient;
pub mod metrics;
pub mod run;
pub mod tenant;
mod tools;
pub mod webhook;
