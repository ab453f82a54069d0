#!/bin/sh
# Restores a backup: a file, `latest`, or the name of one in a store. Nobody is asked: who types this means it.
# Options are those of `obms restore`, and so is the exit status.
set -eu
for word in "$@"; do
    shift
    # ./backups of the compose files: /backups is the same, or an empty volume that docker-compose 1.29 put there.
    here=/srv/backups/${word##*/}
    case $word in
        /backups/*) if [ -e "$here" ] && { ! [ -e "$word" ] || [ "$word" -ef "$here" ]; }; then word=$here; fi ;;
    esac
    set -- "$@" "$word"
done
exec obms restore "$@" --yes
