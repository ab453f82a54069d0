"""Nobody gets where they may not: who may do what, limits, and what is never shown."""
