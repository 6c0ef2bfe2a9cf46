# One image for MLflow, Prefect, the workers and TensorBoard. They share its layers, so the disk holds it once.
# The target `serve` is a smaller one for `lenet5 serve`, without TensorFlow.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS tools
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 UV_SYSTEM_CERTS=1
# The installer and the build backend, with the hashes in the project's lock. They are not in the final image.
RUN --mount=type=bind,source=requirements.lock,target=/tmp/requirements.lock \
    awk '/^[a-z0-9]/ {keep = /^(uv|hatchling)==/} keep' /tmp/requirements.lock > /tmp/tools.txt \
    && python -m venv /opt/tools \
    && /opt/tools/bin/python -m pip install --quiet --no-deps --require-hashes -r /tmp/tools.txt \
    && /opt/tools/bin/uv pip install --quiet --python /opt/tools/bin/python \
        --require-hashes -r /tmp/tools.txt --constraint /tmp/requirements.lock

FROM tools AS environment
# requirements-gpu.lock adds the CUDA libraries of TensorFlow
ARG LOCK=requirements.lock
# Without compiled bytecode, every process that imports TensorFlow takes seconds longer to start.
ENV UV_COMPILE_BYTECODE=1
RUN --mount=type=bind,source=docker/requirements.lock,target=/tmp/requirements.lock \
    --mount=type=bind,source=docker/requirements-gpu.lock,target=/tmp/requirements-gpu.lock \
    python -m venv --without-pip /opt/venv \
    && /opt/tools/bin/uv pip install --quiet --python /opt/venv/bin/python --require-hashes -r "/tmp/${LOCK}" \
    && ln -s /opt/lenet5/bin/lenet5 /opt/venv/bin/lenet5 \
    && packages="$(/opt/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    # the package goes into a separate folder, so that a change of its code does not change this layer
    && echo /opt/lenet5 > "${packages}/lenet5.pth" \
    # C++ headers, which no build here uses
    && rm -rf "${packages}/tensorflow/include"

FROM tools AS serve-environment
ENV UV_COMPILE_BYTECODE=1
RUN --mount=type=bind,source=docker/requirements-serve.lock,target=/tmp/requirements.lock \
    python -m venv --without-pip /opt/venv \
    && /opt/tools/bin/uv pip install --quiet --python /opt/venv/bin/python --require-hashes -r /tmp/requirements.lock \
    && ln -s /opt/lenet5/bin/lenet5 /opt/venv/bin/lenet5 \
    && packages="$(/opt/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    && echo /opt/lenet5 > "${packages}/lenet5.pth" \
    # headers, tests, and the library of Arrow for remote procedure calls: nothing here uses them
    && rm -rf "${packages}/pyarrow/include" "${packages}"/pyarrow/libarrow_flight* "${packages}"/pyarrow/libarrow_python_flight* \
        "${packages}/pandas/tests" "${packages}/pyarrow/tests" "${packages}"/numpy/*/tests

FROM tools AS product
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY src src
# the script `lenet5` starts with the path of the Python that it is installed for
RUN python -m venv --without-pip /opt/venv \
    && /opt/tools/bin/python -m hatchling build --target wheel --directory /tmp/wheel \
    && /opt/tools/bin/uv pip install --quiet --python /opt/venv/bin/python --no-deps --target /opt/lenet5 /tmp/wheel/*.whl \
    && rm /opt/lenet5/.lock

FROM ${PYTHON_IMAGE} AS serve
LABEL org.opencontainers.image.title="lenet5-serve" org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 lenet5 \
    && useradd --uid 10001 --gid lenet5 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin lenet5 \
    && install --directory --owner=10001 --group=10001 /app/.lenet5
COPY --from=serve-environment /opt/venv /opt/venv
COPY --from=product /opt/lenet5 /opt/lenet5
COPY --chmod=755 docker/entrypoint.sh /opt/bin/entrypoint
COPY docker/healthy.py /opt/setup/
COPY dvc.yaml params.yaml /app/
RUN ln -s entrypoint /opt/bin/lenet5
ENV PATH=/opt/bin:/opt/venv/bin:${PATH} \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    DO_NOT_TRACK=true \
    MLFLOW_DISABLE_TELEMETRY=true
USER 10001:10001
WORKDIR /app
EXPOSE 8080
ENTRYPOINT ["entrypoint"]
CMD ["lenet5", "serve", "--host", "0.0.0.0"]

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="lenet5" org.opencontainers.image.licenses="Apache-2.0"
# git must trust a mounted checkout of any owner; `git clone` reads this setting from no environment variable
# Debian removes a version from its servers when it has a newer one, so a pinned version would soon not build.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/* \
    && git config --system --add safe.directory /repository \
    && git config --system --add safe.directory /repository/.git \
    && groupadd --gid 10001 lenet5 \
    && useradd --uid 10001 --gid lenet5 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin lenet5
COPY --from=environment /opt/venv /opt/venv
COPY --from=product /opt/lenet5 /opt/lenet5
COPY --chmod=755 docker/entrypoint.sh /opt/bin/entrypoint
COPY docker/setup docker/healthy.py /opt/setup/
# The working folder of `lenet5`. It is not a git checkout: each flow run clones the repository.
COPY . /app/
RUN for program in dvc lenet5 mlflow prefect; do ln -s entrypoint "/opt/bin/${program}"; done \
    && printf '[core]\n    no_scm = true\n' > /app/.dvc/config.local \
    && install --directory --owner=10001 --group=10001 /app/.dvc/tmp /app/.lenet5 /app/.lenet5/tensorboard
ENV PATH=/opt/bin:/opt/venv/bin:${PATH} \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    DO_NOT_TRACK=true \
    MLFLOW_DISABLE_TELEMETRY=true \
    PREFECT_SERVER_ANALYTICS_ENABLED=false
USER 10001:10001
WORKDIR /app
ENTRYPOINT ["entrypoint"]
CMD ["lenet5", "--help"]
