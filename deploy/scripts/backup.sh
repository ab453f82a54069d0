#!/bin/sh
# Makes a backup now and proves it. Options are those of `obms backup run`, and so is the exit status.
exec obms backup run "$@"
