"""Tests of looking at the whole server."""
