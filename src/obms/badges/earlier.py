"""Proofs of version 1.1 of the data model, and those from before Data Integrity 1.0: verified, never made.

`Ed25519Signature2020` and `eddsa-2022` sign what `eddsa-rdfc-2022` signs: the hash of the proof's own
members, then that of the document, both as canonical RDF. They differ by the members alone.
"""

from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from openbadgeslib.ob3 import OB3VerificationError, ldp
from openbadgeslib.ob3 import contexts as library
from openvc.errors import OpenvcError
from openvc.multibase import decode_multibase

# The libraries offer neither step for a proof of another kind than their own: the canonical hashes within
# bounds of work, and whether the JSON says what its graph does.
from openvc.proof import _context_validation as form
from openvc.proof import contexts as openvc_contexts

from obms.badges import contexts, proof_sets
from obms.badges.reading import listed
from obms.badges.signatures import BadSignature
from obms.specs import Json, vcdm

SIGNATURE_2020, SUITE_2022, SUITE = "Ed25519Signature2020", "eddsa-2022", "eddsa-rdfc-2022"
PURPOSE = "assertionMethod"


def suite_of(proof: Any) -> str | None:
    """What a proof is called here; None for what is none, or of a kind that has no name."""
    if not isinstance(proof, Mapping):
        return None
    name = proof.get("cryptosuite") if proof.get("type") == "DataIntegrityProof" else proof.get("type")
    return name if isinstance(name, str) else None


def is_earlier(document: Mapping[str, Any], proof: Any) -> bool:
    """Whether this module is to verify a proof: an older one, or one on an older document."""
    suite = suite_of(proof)
    return suite in (SIGNATURE_2020, SUITE_2022) or (suite == SUITE and vcdm.is_earlier(document))


def proof_of(document: Mapping[str, Any]) -> Any:
    """The one proof of a document, if there is one."""
    found = listed(document.get("proof"))
    return found[0] if len(found) == 1 else None


def verify(document: Json, proof: Any, pem: str) -> None:
    """BadSignature unless the key has signed all that the document says; whenever it holds."""
    if not is_earlier(document, proof) or not proof_sets.is_plain(proof):
        raise BadSignature("its proof is of another kind, or has members that are not known")
    if proof.get("proofPurpose") != PURPOSE:
        raise BadSignature("the purpose of its proof is another one")
    public = load_pem_public_key(pem.encode())
    if not isinstance(public, Ed25519PublicKey):
        raise BadSignature("the key is not an Ed25519 one")
    unlike: BadSignature | None = None
    for known, apart in contexts.readings(document):
        try:
            _verify(document, proof, public, known)
            _require_said(document, proof, apart)
        except BadSignature as error:
            unlike = unlike or error
        else:
            return
    raise unlike or BadSignature("it cannot be read")


def _class_as_member(value: Any) -> str | None:
    """A member with the name of a class, which is capitalized; None if there is none, as is right."""
    if isinstance(value, list):
        return next(filter(None, map(_class_as_member, value)), None)
    if not isinstance(value, dict):
        return None
    named = (name for name in value if name[:1].isupper())
    return next(named, None) or _class_as_member(list(value.values()))


def _without(document: Json, name: str) -> Json:
    return {each: value for each, value in document.items() if each != name}


def _config(document: Json, proof: Json) -> Json:
    return {**_without(proof, "proofValue"), "@context": document.get("@context")}


def _verify(document: Json, proof: Json, public: Ed25519PublicKey, known: contexts.Contexts) -> None:
    value = str(proof.get("proofValue"))
    try:
        ldp._require_within_size_cap(document)  # noqa: SLF001 - see above
        ldp._screen_structure(document, extra_contexts=known)  # noqa: SLF001
        loader = library.document_loader(known)
        data = ldp._hash_data(_without(document, "proof"), _config(document, proof), loader)  # noqa: SLF001
        public.verify(decode_multibase(value) if value.startswith("z") else b"", data)
    except InvalidSignature as error:
        raise BadSignature("the signature is not one of this document by this key") from error
    except (OB3VerificationError, OpenvcError) as error:
        raise BadSignature(str(error)) from error


def _require_said(document: Json, proof: Json, apart: contexts.Contexts) -> None:
    """BadSignature unless the JSON says all that is signed, and nothing else, each by its own term."""
    if name := _class_as_member(document):
        raise BadSignature(f"{name} is a class, and stands where a member should")
    loader = openvc_contexts.document_loader(dict(apart))
    try:
        form.validate_document(_without(document, "proof"), _config(document, proof), loader)
    except OpenvcError as error:
        raise BadSignature(str(error)) from error
