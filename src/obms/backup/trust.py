"""Whose word a manifest is: what its signature tells, and what an operator accepts all the same."""

from dataclasses import dataclass

from obms.backup.manifest import Check, Manifest, Signature
from obms.errors import KeyMissing, NotSigned, ObmsError

CHECK = "signature"
OTHER_KEY = (
    "Set SECRET_KEY to the key of that server. If it is lost for good, --accept-other-key takes the backup "
    "as it is; after a restore `obms keys rotate --all` lets issuers sign again."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """Manifests that are believed though they are not signed, or signed with another SECRET_KEY."""

    not_signed: bool = False
    other_key: bool = False

    def accepts(self, signature: Signature) -> bool:
        return {"ours": True, "other": self.other_key, "none": self.not_signed}[signature]


NOTHING_MORE = Accepted()


def check_signature(
    manifest: Manifest, trusted: str | None, *, vouched: bool = False, accepted: Accepted = NOTHING_MORE
) -> Check:
    """Whether the manifest is ours, `vouched` for by a proof of ours, or accepted."""
    signature = manifest.signature_seen_by(trusted)
    said = {
        "ours": "signed with this SECRET_KEY",
        "other": f"signed with another SECRET_KEY (public key {manifest.signed_by})",
        "none": "not signed",
    }[signature]
    if signature != "ours" and vouched:
        return Check(name=CHECK, ok=True, detail=f"{said}; a proof signed with this SECRET_KEY names it")
    ok = accepted.accepts(signature)
    return Check(name=CHECK, ok=ok, detail=f"{said}; accepted" if ok and signature != "ours" else said)


def refusal(name: str, signature: Signature) -> ObmsError:
    """The error for a backup whose signature is not accepted."""
    if signature == "none":
        return NotSigned(name=name)
    return KeyMissing(
        detail=f"{name} was signed with another SECRET_KEY",
        hint=OTHER_KEY,
    )
