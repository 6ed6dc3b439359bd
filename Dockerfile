# syntax=docker/dockerfile:1
# Two images of srinit with all extras: `docker build --target cpu .` (PyTorch for processors) and `--target gpu` (with CUDA).
# How they are run: docs/install.md.

FROM python:3.12-slim AS build
RUN pip install --no-cache-dir uv
COPY pyproject.toml README.md LICENSE CHANGELOG.md /source/
COPY src /source/src
RUN uv build --wheel --out-dir /wheels /source

FROM python:3.12-slim AS base
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir uv && useradd --create-home srinit && mkdir /work && chown srinit /work
# Written to by libraries (tables of fonts and the like), whoever the container runs as.
ENV HOME=/tmp UV_NO_CACHE=1 UV_SYSTEM_PYTHON=1
WORKDIR /work
ENTRYPOINT ["srinit"]
CMD ["--help"]

FROM base AS gpu
RUN uv pip install "srinit[all] @ file://$(ls /wheels/*.whl)"
USER srinit

FROM base AS cpu
RUN uv pip install --torch-backend cpu "srinit[all] @ file://$(ls /wheels/*.whl)"
USER srinit
