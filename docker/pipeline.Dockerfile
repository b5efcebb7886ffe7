# The image of the jobs. Build and run it from the repository's root:
#     docker build -f docker/pipeline.Dockerfile -t exactcpt .
#     docker run --rm --user "$(id -u)" -v "$PWD:/work" exactcpt prepare --source ...
#
# The worker machines of a Beam runner need the same code. Build their image from this file, too,
# and name it among the runner's options, after `--`:
#     docker build -f docker/pipeline.Dockerfile --target worker -t REGISTRY/exactcpt-worker .
#     exactcpt prepare ... --runner NAME -- --environment_type=DOCKER \
#         --environment_config=REGISTRY/exactcpt-worker
# (Dataflow calls the last option --sdk_container_image.) Beam needs the same minor version of
# Python, and the same version of Beam, on the workers and where the job is submitted: submit it
# from the image `exactcpt`.

ARG PYTHON=3.12
ARG BEAM=2.77.0

FROM python:${PYTHON}-slim AS install
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY schemas schemas
COPY pipeline pipeline
COPY training training
RUN python -m venv /opt/exactcpt \
    && /opt/exactcpt/bin/pip install --no-cache-dir -c constraints.txt '.[s3,gcs]'

FROM python:${PYTHON}-slim AS base
COPY --from=install /opt/exactcpt /opt/exactcpt
ENV PATH=/opt/exactcpt/bin:$PATH
RUN useradd --create-home --uid 1000 exactcpt
USER 1000

FROM apache/beam_python${PYTHON}_sdk:${BEAM} AS beam

FROM base AS worker
COPY --from=beam /opt/apache/beam /opt/apache/beam
ENTRYPOINT ["/opt/apache/beam/boot"]

FROM base
WORKDIR /work
ENTRYPOINT ["exactcpt"]
CMD ["--help"]
