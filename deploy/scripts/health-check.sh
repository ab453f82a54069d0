#!/bin/sh
# Whether the server can be used: /health answers 200 (ok, degraded), and 503 where the database is lost.
exec /opt/obms/bin/python3 -I -c '
import sys, urllib.request
try:
    with urllib.request.urlopen(sys.argv[1], timeout=8) as answer:
        print(answer.read(4096).decode())
except OSError as error:
    sys.exit(f"{sys.argv[1]}: {error}")
' "http://127.0.0.1:${PORT:-3000}/health"
