#!/bin/sh
# Says at once, in one line, what would fail later; then becomes the command.
set -eu
for folder in "${BACKUP_DIR:-/backups}" "$(dirname "${SQLITE_FILE:-/data/openbadges.db}")"; do
    if [ -d "$folder" ] && ! [ -w "$folder" ]; then
        echo "obms: User $(id -u) may not write to $folder. On the host, for the folder that is mounted there:" \
            "sudo chown -R $(id -u) <folder> (exit 9)" >&2
        exit 9
    fi
done
exec "$@"
