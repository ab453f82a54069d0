"""The seam to a database, and both sides of it."""
