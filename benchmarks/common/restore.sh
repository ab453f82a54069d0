#!/bin/sh
# Restore the database from a file that backup.sh has made.
# Written for the comparison, as such scripts are commonly written.

FILE=$1

if [ ! -f "$FILE" ]; then
    echo "Usage: $0 <backup file>"
    exit 1
fi

case "$FILE" in
*.sql.gz)
    echo "Restoring PostgreSQL database from $FILE"
    gunzip -c "$FILE" | PGPASSWORD="$POSTGRES_PASSWORD" psql -q -h "$POSTGRES_HOST" -p "$POSTGRES_PORT" \
        -U "$POSTGRES_USER" -d "$POSTGRES_DB"
    ;;
*.db.gz)
    echo "Restoring SQLite database from $FILE"
    gunzip -c "$FILE" > /tmp/restore.$$.db
    cp /tmp/restore.$$.db "$SQLITE_FILE"
    rm /tmp/restore.$$.db
    ;;
*)
    echo "Unable to determine database type"
    exit 1
    ;;
esac

if [ $? -eq 0 ]; then
    echo "Database restored successfully"
else
    echo "Restore failed"
    exit 1
fi
