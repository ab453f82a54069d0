"""Open Badges server whose database cannot be lost."""

__version__ = "0.1.0"
