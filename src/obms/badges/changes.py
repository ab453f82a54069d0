"""What people call it when a row of a table comes, changes or goes."""

from collections.abc import Mapping

from obms.domain import REVOCATION

WORDS = {
    ("credentials", "added"): "issued",
    ("credentials", "changed"): "changed",
    ("credentials", "deleted"): "deleted",
}
# A revocation never leaves by itself: who sees the word has lost one, or restored without it.
OF_REVOCATIONS = {"added": "revoked", "changed": "reason changed", "deleted": "no longer revoked"}
OF_SUSPENSIONS = {"added": "suspended", "changed": "suspended again", "deleted": "lifted"}


def word_of(table: str, kind: str, key: Mapping[str, object]) -> str | None:
    """The word for a change of a badge; None where there is none."""
    if table != "revocations":
        return WORDS.get((table, kind))
    return (OF_REVOCATIONS if key.get("purpose") == REVOCATION else OF_SUSPENSIONS)[kind]
