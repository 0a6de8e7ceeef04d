# nats-server for the tests of compose.yaml, around the static binary that ./dev installed: needs no registry.
FROM scratch
COPY nats.conf /etc/nats/nats.conf
COPY --chown=65532:65532 data /data
COPY nats-server /nats-server
USER 65532:65532
ENTRYPOINT ["/nats-server"]
CMD ["-c", "/etc/nats/nats.conf"]
