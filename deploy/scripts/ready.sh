#!/bin/sh
# Before anything else is started: are the settings there, and does PostgreSQL take connections? It gets a minute.
set -eu

refuse() {
    echo "obms: $2 (exit $1)" >&2
    exit "$1"
}

if [ -z "${SECRET_KEY:-}${SECRET_KEY_FILE:-}" ]; then
    refuse 10 "SECRET_KEY is empty. In .env, for a new server: what \`openssl rand -hex 32\` prints. \
For a restored one: the key of the server that made the backup."
fi

server=${DATABASE_URL:-}
if [ -z "$server" ] && [ -n "${DATABASE_URL_FILE:-}" ]; then
    server=$(cat "$DATABASE_URL_FILE")
fi
if [ -z "$server" ]; then
    [ "${DB_TYPE:-sqlite}" = postgresql ] || exit 0
    if [ "$POSTGRES_HOST" = db ] && [ "${COMPOSE_PROFILES:-}" != db ]; then
        refuse 2 "The PostgreSQL of this deployment is not switched on. In .env: COMPOSE_PROFILES=db. \
Or name another one: POSTGRES_HOST."
    fi
    if [ -z "${POSTGRES_PASSWORD:-}${POSTGRES_PASSWORD_FILE:-}" ]; then
        refuse 2 "POSTGRES_PASSWORD is empty. Set it in .env."
    fi
    server="host=$POSTGRES_HOST port=${POSTGRES_PORT:-5432}"
fi
scheme=${server%%://*}
[ "$scheme" = "$server" ] || server="postgresql://${server#*://}"

left=60
until pg_isready --quiet --dbname="$server" --timeout=3; do
    left=$((left - 1))
    [ "$left" -gt 0 ] || refuse 3 "PostgreSQL takes no connections. Look at its log: docker-compose logs db"
    sleep 1
done
