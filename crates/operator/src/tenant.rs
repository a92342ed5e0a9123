//! Gives each tenant its namespace and the tools: observe, plan (pure), apply, status.
