# The image for training. Build and run it from the repository's root:
#     docker build -f docker/training.Dockerfile -t exactcpt-training .
#     docker run --rm --gpus all --ipc host --user "$(id -u)" -v "$PWD:/work" exactcpt-training \
#         torchrun --nproc-per-node 8 --no-python \
#         exactcpt train --shards shards --model MODEL --out run --max-tokens 1B
#
# torch brings its CUDA libraries; the machine needs the driver and the container toolkit. To stop
# a run, give it time for a checkpoint: docker stop --time 600. On several machines, add torchrun's
# --nnodes, --node-rank and --rdzv-endpoint, and name an --out that all of them see.

ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS install
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY schemas schemas
COPY pipeline pipeline
COPY training training
RUN python -m venv /opt/exactcpt \
    && /opt/exactcpt/bin/pip install --no-cache-dir -c constraints.txt '.[tensorboard]'

FROM python:${PYTHON}-slim
# torch.compile compiles C code. Any version of the compiler does.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
COPY --from=install /opt/exactcpt /opt/exactcpt
# Seconds that torchrun gives its ranks after SIGTERM; by itself 30, too few for a large checkpoint.
ENV PATH=/opt/exactcpt/bin:$PATH \
    TORCH_ELASTIC_SHUTDOWN_TIMEOUT=600
RUN useradd --create-home --uid 1000 exactcpt
USER 1000
WORKDIR /work
CMD ["exactcpt", "train", "--help"]
