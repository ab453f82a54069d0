"""Names of settings that were meant, and are spelled otherwise: they would be passed over in silence."""

from collections.abc import Container, Iterable
from difflib import get_close_matches

# How alike a name must be to a setting to be that one misspelt. Nobody else's begin as ours do.
OURS, OUR_LIKENESS, LIKENESS = ("BACKUP_", "DRILL_"), 0.8, 0.92


def misspelt(names: Iterable[str], settings: Iterable[str], others: tuple[str, ...]) -> dict[str, str]:
    """Those names that are no setting and look like one; each with that one.

    Names that begin as `others` do are settings too.
    """
    known = set(settings)
    unknown = [name for name in names if _is_unknown(name.upper(), known, others)]
    near = {name: get_close_matches(name.upper(), known, 1, _likeness(name.upper())) for name in unknown}
    return {name: found[0] for name, found in near.items() if found}


def _is_unknown(name: str, known: Container[str], others: tuple[str, ...]) -> bool:
    return name not in known and not name.startswith(others)


def _likeness(name: str) -> float:
    return OUR_LIKENESS if name.startswith(OURS) else LIKENESS
