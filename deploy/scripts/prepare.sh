#!/bin/sh
# As root and before all others: the folders belong to the user of the server, whoever made what is in them.
# The group of a folder keeps its rights, so that its owner on the host can still put files there.
set -eu
user=$1
shift
for folder in "$@"; do
    find "$folder" -xdev ! -user "$user" -exec chown -h "$user" {} +
    chmod ug+rwx "$folder"
done
