# The server in one image: no root, nothing written outside /data, /backups and /tmp, nothing fetched at run time.
# Any image of Debian with Python 3.11 to 3.13 and its venv will do; the tests of this project run on 3.11.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /source
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
# Where SQLite has no wheel (arm64), it is built with the SQLite of Debian, and `obms doctor` tells its version.
# hadolint ignore=DL3008
RUN python3 -m venv /opt/obms \
    && if [ "$(uname -m)" != x86_64 ]; then \
        apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev libsqlite3-dev \
        && rm -rf /var/lib/apt/lists/*; \
    fi
COPY requirements.lock ./
RUN /opt/obms/bin/pip install --quiet --no-compile --no-deps --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
# Of PostgreSQL its clients are needed; of pip and what builds packages, nothing more.
RUN /opt/obms/bin/pip install --quiet --no-compile --no-deps --no-build-isolation . \
    && /opt/obms/bin/pip uninstall --quiet --yes hatchling trove-classifiers setuptools pip \
    && find /opt/obms -path '*/pginstall/*' ! -type d ! -name pg_dump ! -name psql ! -name pg_isready -delete \
    && ln -s "$(find /opt/obms -path '*/pginstall/bin')" /opt/obms/postgresql \
    && /opt/obms/bin/python3 -m compileall -q -j 0 /opt/obms/lib

FROM ${PYTHON_IMAGE}
# `sqlite3` is for the commands by hand. Versions are those of the Debian release that was chosen above.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends sqlite3 tini \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log \
    && groupadd --gid 10001 obms \
    && useradd --uid 10001 --gid obms --home-dir /data --no-create-home --shell /usr/sbin/nologin obms \
    && mkdir /data /backups \
    && chown obms:obms /data /backups \
    && ln -s /opt/obms/bin/obms /opt/obms/postgresql/pg_dump /opt/obms/postgresql/psql \
        /opt/obms/postgresql/pg_isready /usr/local/bin/
COPY --from=build /opt/obms /opt/obms
COPY deploy/scripts /scripts
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOST=0.0.0.0 PORT=3000 SQLITE_FILE=/data/openbadges.db BACKUP_DIR=/backups SQLITE_TMPDIR=/data
WORKDIR /data
USER 10001:10001
VOLUME ["/data", "/backups"]
EXPOSE 3000
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 CMD ["/scripts/health-check.sh"]
ENTRYPOINT ["tini", "--", "/scripts/entrypoint.sh"]
CMD ["obms", "serve"]
