# syntax=docker/dockerfile:1
# TaskFlow in a container: `api` (the default) or `worker`, by argument; `migrate` and `provision` work, too.
# Your tasks: FROM this image, COPY them to /app, name their modules in TASKFLOW_TASKS.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
WORKDIR /build
RUN python -m venv /opt/taskflow
ENV PATH=/opt/taskflow/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements.lock pyproject.toml README.md LICENSE ./
COPY src src
RUN --mount=type=cache,target=/root/.cache/pip pip install -c requirements.lock '.[aws]'

# What docker-compose.yml uses for SQS and S3: the versions our tests run on.
FROM build AS emulator
RUN --mount=type=cache,target=/root/.cache/pip pip install -c requirements.lock 'moto[s3,server,sqs]'
USER 65534:65534
EXPOSE 5000
HEALTHCHECK --interval=2s --timeout=3s --start-period=20s --retries=5 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:5000/moto-api/', timeout=2)"]
ENTRYPOINT ["moto_server"]
CMD ["-H", "0.0.0.0", "-p", "5000"]

FROM python:${PYTHON}-slim AS taskflow
RUN useradd --system --uid 10001 --no-create-home taskflow \
    && install -d -o taskflow -g taskflow /var/lib/taskflow /app
COPY --from=build /opt/taskflow /opt/taskflow
# An API instance and a worker answer GET /health on the same port, so that one health check fits both.
ENV PATH=/opt/taskflow/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TASKFLOW_HOME=/var/lib/taskflow \
    TASKFLOW_HOST=0.0.0.0 \
    TASKFLOW_PORT=8000 \
    TASKFLOW_WORKER_HEALTH_PORT=8000
WORKDIR /app
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=2)"]
ENTRYPOINT ["taskflow"]
CMD ["api"]
