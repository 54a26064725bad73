# Two images from one file: `serve` has no torch (the ranker and ingest), `train` has.
#   docker build --target serve -t steadyrank:serve .
#   docker build --target train -t steadyrank:train .
FROM python:3.12-slim AS base
# The folders below /data too: a volume takes its owner from the folder that it is first mounted on.
RUN useradd --create-home --uid 1000 steadyrank && \
    install -d -o steadyrank /data /data/policies /data/spool /data/training
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE steadyrank.py loop.toml ./
COPY schemas schemas
COPY policies policies
COPY storage storage
COPY service service
COPY trainer trainer
COPY simulators simulators
COPY migrations migrations
ENV STEADYRANK_DATA=/data STEADYRANK_LOOP=/app/loop.toml STEADYRANK_HOST=0.0.0.0 PYTHONUNBUFFERED=1
VOLUME /data
ENTRYPOINT ["steadyrank"]

FROM base AS serve
RUN pip install --no-cache-dir -c constraints.txt .
USER steadyrank
EXPOSE 8080
HEALTHCHECK --interval=5s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/livez')"]
CMD ["serve"]

FROM base AS train
RUN pip install --no-cache-dir -c constraints.txt '.[learner]'
USER steadyrank
CMD ["train"]
