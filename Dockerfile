# The log service, the operator and the command line: `docker build --target operator .`
#
# `make images` makes the same images without an engine. It reads the stages from scratch below, and takes what
# `make build` left in bin/ for what the first stage leaves in /src/bin.

# The same stage as in Dockerfile.tools, so that it is built once. Its version is that of rust-toolchain.toml.
FROM rust:1.95.0-bookworm AS build
WORKDIR /src
COPY . .
RUN make build

FROM scratch AS log-service
LABEL org.opencontainers.image.title="relay-log-service" \
  org.opencontainers.image.description="Keeps what containers write and gives it to whoever may read it" \
  org.opencontainers.image.licenses="Apache-2.0"
# For buckets, which are reached over the net.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/bin/relay-log-service /relay-log-service
USER 65532:65532
ENTRYPOINT ["/relay-log-service"]

FROM scratch AS operator
LABEL org.opencontainers.image.title="relay-operator" \
  org.opencontainers.image.description="Gives tenants their tools and wraps the commands of their pods" \
  org.opencontainers.image.licenses="Apache-2.0"
# For registries.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/bin/relay-operator /relay-operator
USER 65532:65532
ENTRYPOINT ["/relay-operator"]

FROM scratch AS cli
LABEL org.opencontainers.image.title="relay-cli" \
  org.opencontainers.image.description="Reads the logs that Relay keeps; also a plugin of kubectl" \
  org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/bin/relay /relay
COPY --from=build /src/bin/relay /kubectl-relay
USER 65532:65532
ENTRYPOINT ["/relay"]
