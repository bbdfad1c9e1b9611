# One image for each service of Roost:
#
#     docker build --build-arg SERVICE=coordinator -t roost-coordinator .
#     docker build --build-arg SERVICE=worker --build-arg EXTRAS=llamacpp -t roost-worker .
#     docker build --build-arg SERVICE=gossip -t roost-gossip .
#     docker build --build-arg SERVICE=client -t roost-client .
#
# SERVICE is an extra of the distribution (client: the extra `cli`), EXTRAS names more of them, comma-separated. The extra `demo` holds the weights of the demonstration
# model, which are under the Gemma terms of use: an image built with it is for the machine that built it and is never published.
# Builds with BuildKit and with the builder before it, so there are no cache mounts and no syntax frontend.
ARG SERVICE=coordinator

# ---- a virtual environment without pip; the tools that fill it stay in this stage -------------------------------------------------
FROM python:3.13-slim-trixie AS builder
ARG SERVICE
ARG EXTRAS=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
COPY constraints.txt .
RUN python -m venv tools && tools/bin/pip install --no-cache-dir --constraint constraints.txt hatchling && \
    python -m venv --without-pip /opt/roost
# The metadata alone is a wheel without code: third-party packages, which change rarely, are a layer of their own.
COPY pyproject.toml README.md LICENSE source/
RUN tools/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir metadata ./source && \
    if [ "$SERVICE" = client ]; then role=cli; else role="$SERVICE"; fi && \
    tools/bin/pip --python /opt/roost/bin/python install --no-cache-dir --only-binary :all: --constraint constraints.txt \
    "$(echo metadata/*.whl)[${role}${EXTRAS:+,$EXTRAS}]"
COPY libs source/libs
COPY services source/services
COPY sim source/sim
RUN tools/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir wheels ./source && \
    tools/bin/pip --python /opt/roost/bin/python install --no-cache-dir --no-deps --no-index --force-reinstall wheels/*.whl

# ---- what runs --------------------------------------------------------------------------------------------------------------------
FROM python:3.13-slim-trixie AS runtime
RUN groupadd --gid 10001 roost && useradd --uid 10001 --gid roost --no-create-home --home-dir /tmp --shell /usr/sbin/nologin roost && \
    install --directory --owner roost --group roost /var/lib/roost/models
COPY --from=builder /opt/roost /opt/roost
ENV PATH=/opt/roost/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    ROOST_MODELS_DIR=/var/lib/roost/models
LABEL org.opencontainers.image.title="roost" \
      org.opencontainers.image.description="Routes inference requests to the worker that already holds the model." \
      org.opencontainers.image.licenses="Apache-2.0"
USER 10001:10001
WORKDIR /var/lib/roost
STOPSIGNAL SIGTERM

FROM runtime AS run-coordinator
ENV ROOST_COORDINATOR_HOST=0.0.0.0 ROOST_COORDINATOR_METRICS_HOST=0.0.0.0
EXPOSE 9000 9100
HEALTHCHECK --interval=5s --timeout=4s --start-period=15s --retries=3 \
    CMD ["python", "-m", "roost.service.healthcheck", "127.0.0.1:9000"]
ENTRYPOINT ["python", "-m", "roost.coordinator"]

FROM runtime AS run-worker
ENV ROOST_WORKER_HOST=0.0.0.0 ROOST_WORKER_METRICS_HOST=0.0.0.0
EXPOSE 8001 9101
HEALTHCHECK --interval=5s --timeout=4s --start-period=15s --retries=3 \
    CMD ["python", "-m", "roost.service.healthcheck", "127.0.0.1:8001"]
ENTRYPOINT ["python", "-m", "roost.worker"]

FROM runtime AS run-gossip
ENV ROOST_GOSSIP_HOST=0.0.0.0 ROOST_GOSSIP_METRICS_HOST=0.0.0.0
EXPOSE 7946/udp 7946 7846 9201
HEALTHCHECK --interval=5s --timeout=4s --start-period=15s --retries=3 \
    CMD ["python", "-m", "roost.service.healthcheck", "127.0.0.1:7846"]
ENTRYPOINT ["python", "-m", "roost.gossip"]

FROM runtime AS run-client
ENTRYPOINT ["roost"]
CMD ["--help"]

# A stage of this file, not an image that could have a tag.
# hadolint ignore=DL3006
FROM run-${SERVICE}
