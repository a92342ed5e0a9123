//! The HTTP side of the webhook: admission reviews in and out, over TLS.
