# syntax=docker/dockerfile:1
# For a processor:
#   docker build -t skipdit .
# For NVIDIA GPUs, with torch as pip finds it for Linux, which has CUDA in it:
#   docker build -t skipdit --build-arg TORCH_INDEX= .
# What is made lies in the folder that is mounted at /work, what is downloaded in that at /home/skipdit:
#   docker run --rm --gpus all -v "$PWD:/work" -v skipdit:/home/skipdit skipdit cache-sweep --n 2..6

FROM python:3.11-slim-bookworm AS build
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

FROM python:3.11-slim-bookworm
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY constraints.txt /tmp/
ENV PIP_ROOT_USER_ACTION=ignore
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} \
        torch torchvision
RUN --mount=type=bind,from=build,source=/wheel,target=/wheel \
    pip install --no-cache-dir --constraint /tmp/constraints.txt /wheel/*.whl \
    && useradd --uid 1000 --create-home skipdit \
    && install --directory --owner skipdit /work
USER 1000
WORKDIR /work
ENTRYPOINT ["skipdit"]
CMD ["--help"]
