"""Faults put on purpose: what they must not do to the database or to its backups."""
