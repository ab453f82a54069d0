"""The process that is forked for each command, to be killed or to have another clock."""

from tests.faults.conftest import forking

__all__ = ["forking"]
