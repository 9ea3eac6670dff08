# An image of `tgdfer predict` and of the page `tgdfer space`, for machines without a GPU.
#
#   docker build --tag tgdfer .
#   docker run --rm --network none --volume "$PWD:/data" tgdfer predict talk.mp4 --csv frames.csv
#   docker run --rm --publish 127.0.0.1:7860:7860 tgdfer space
#
# The image contains the model and the face detector. Nothing is downloaded when it runs.

FROM python:3.11-slim AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim
COPY --from=wheel /wheels /wheels
# PyTorch without CUDA, which would add several gigabytes.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir --extra-index-url "$TORCH_INDEX" "$(echo /wheels/*.whl)[space]" && rm -r /wheels

# The user of Spaces and of most first users of a machine, so that the files in a mounted folder belong to that user.
RUN useradd --uid 1000 --create-home tgdfer && mkdir /data && chown tgdfer /data
USER tgdfer
WORKDIR /data

# No network at run time: libraries of the Hub do not try, so the detector in the image is chosen at once.
ENV HF_HUB_OFFLINE=1 \
    GRADIO_ANALYTICS_ENABLED=False \
    GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860 \
    PYTHONUNBUFFERED=1
EXPOSE 7860
ENTRYPOINT ["tgdfer"]
CMD ["space"]
