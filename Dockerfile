# syntax=docker/dockerfile:1
# Our own image: a wheel built from this tree, installed into an empty environment with exactly what uv.lock names.
# And one with the pages of docs/, `--target docs`.

FROM python:3.13-slim-bookworm AS base
ENV UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never UV_COMPILE_BYTECODE=1
RUN pip install --no-cache-dir uv==0.13.9
WORKDIR /src
COPY pyproject.toml uv.lock README.md LICENSE ./

FROM base AS site
RUN uv venv /opt/site \
    && UV_PROJECT_ENVIRONMENT=/opt/site uv sync --frozen --only-group site
COPY mkdocs.yml ./
COPY docs ./docs
RUN NO_MKDOCS_2_WARNING=1 /opt/site/bin/mkdocs build --strict --quiet --site-dir /site

FROM python:3.13-slim-bookworm AS docs
COPY --from=site /site /site
USER 10001:10001
EXPOSE 8000
# As the first process it would not hear of SIGTERM.
STOPSIGNAL SIGINT
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/', timeout=3)"]
ENTRYPOINT ["python", "-m", "http.server", "--bind", "0.0.0.0", "--directory", "/site", "8000"]

FROM base AS build
RUN uv venv /opt/toolspan \
    && UV_PROJECT_ENVIRONMENT=/opt/toolspan uv sync --frozen --no-dev --no-install-project --extra gateway --extra fast
COPY src ./src
RUN uv build --wheel --out-dir /dist \
    && uv pip install --python /opt/toolspan/bin/python --no-deps /dist/*.whl

FROM python:3.13-slim-bookworm
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin toolspan
COPY --from=build /opt/toolspan /opt/toolspan
ENV PATH=/opt/toolspan/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
# Where a role finds its `.env`; see docker-compose.yml.
WORKDIR /run/toolspan
EXPOSE 8080 8081
# Of a worker that was started with --health-port 8081; a service that listens elsewhere says so in its own.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["toolspan", "wait-for", "http://127.0.0.1:8081/readyz", "--timeout", "3"]
ENTRYPOINT ["toolspan"]
CMD ["--help"]
