"""Backing up, proving and restoring."""
