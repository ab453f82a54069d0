#!/bin/sh
# Back up the database into one compressed file, and remove files older than BACKUP_RETENTION_DAYS.
# Written for the comparison, as such scripts are commonly written.

BACKUP_DIR=${BACKUP_DIR:-/backups}
BACKUP_RETENTION_DAYS=${BACKUP_RETENTION_DAYS:-7}
TIMESTAMP=$(date +%Y-%m-%d_%H-%M-%S)

mkdir -p "$BACKUP_DIR"

if [ "$DB_TYPE" = "postgresql" ]; then
    FILE="$BACKUP_DIR/postgres_backup_$TIMESTAMP.sql.gz"
    echo "Backing up PostgreSQL database to $FILE"
    PGPASSWORD="$POSTGRES_PASSWORD" pg_dump -h "$POSTGRES_HOST" -p "$POSTGRES_PORT" -U "$POSTGRES_USER" \
        "$POSTGRES_DB" | gzip > "$FILE"
else
    FILE="$BACKUP_DIR/sqlite_backup_$TIMESTAMP.db.gz"
    echo "Backing up SQLite database to $FILE"
    sqlite3 "$SQLITE_FILE" ".backup '${FILE%.gz}'"
    gzip "${FILE%.gz}"
fi

if [ $? -eq 0 ]; then
    echo "Backup completed successfully: $FILE"
else
    echo "Backup failed"
    exit 1
fi

find "$BACKUP_DIR" -name "*.gz" -type f -mtime +"$BACKUP_RETENTION_DAYS" -delete
