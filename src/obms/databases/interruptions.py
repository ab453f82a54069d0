"""What ended a statement from outside: a failure that tells nothing of the rows it was about."""

# Classes of SQLSTATE: the connection, want of resources, an operator (a cancel, a shutdown), the system.
NOT_OF_THE_ROWS = ("08", "53", "57", "58")


def is_interruption(error: BaseException | None) -> bool:
    """Whether a session or a statement of PostgreSQL was ended so; SQLite tells of none."""
    code = str(getattr(getattr(error, "orig", None), "sqlstate", None) or "")
    return bool(getattr(error, "connection_invalidated", False)) or code.startswith(NOT_OF_THE_ROWS)
