# Training. It needs an NVIDIA GPU, its driver on the host, and the NVIDIA container runtime.
# From the repository's root:
#     docker build -f docker/training.Dockerfile -t exactcpt-training .
#     docker run --rm --user "$(id -u)" --gpus all --ipc=host -v "$PWD:/work" exactcpt-training --help
#
# BASE may be any image whose `python` is 3.11 to 3.13, has `venv`, and the torch of constraints.txt
# built for a CUDA that your driver knows. torch is taken from it, never installed a second time.

ARG BASE=pytorch/pytorch:2.13.0-cuda13.0-cudnn9-runtime

FROM ${BASE}
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY schemas schemas
COPY pipeline pipeline
COPY training training
RUN python -m venv --system-site-packages /opt/exactcpt \
    && /opt/exactcpt/bin/pip install --no-cache-dir -c constraints.txt ".[train]"
ENV PATH=/opt/exactcpt/bin:$PATH
RUN useradd --create-home --uid 1001 exactcpt
USER 1001
WORKDIR /work
ENTRYPOINT ["exactcpt"]
CMD ["--help"]
