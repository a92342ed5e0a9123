//! Certificates of the webhook and the log service: issued here, renewed with an overlap.
