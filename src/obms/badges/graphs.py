"""Documents that define terms themselves: what they say is read from their graph, which is what is signed.

Who passes such a document on can rename its members and define the new names, and the proof still holds.
So nothing is believed of its JSON: not when it is valid, not how it stands, not who issued it.
"""

# pyld is imported where it is used: it takes 10 MB, and most servers see no such document.

from collections.abc import Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from openbadgeslib.ob3 import verify_data_integrity_proof
from openbadgeslib.ob3.contexts import document_loader
from openvc.did.base import DidResolverRegistry

from obms.badges.signatures import BadSignature
from obms.specs import Json
from obms.specs.vcdm import URL, listed

VC = "https://www.w3.org/2018/credentials#"
STATUS = "https://www.w3.org/ns/credentials/status#"
PERIOD = ("validFrom", "validUntil", "issuanceDate", "expirationDate")  # the last two by version 1.1
UNMAPPED = "urn:unmapped:"
STATUS_MEMBERS = ("statusPurpose", "statusListIndex", "statusListCredential")

Contexts = Mapping[str, dict[str, Any]]


def defines_terms(document: Mapping[str, Any]) -> bool:
    """Whether there is a context in it, at the top, that is more than a name."""
    return any(isinstance(context, Mapping) for context in listed(document.get("@context")))


def expand(document: Mapping[str, Any], contexts: Contexts) -> dict[str, Any]:
    """The one node that the document is about, every term by its IRI; BadSignature if there is no such."""
    from pyld import jsonld

    try:
        found = jsonld.expand(dict(document), {"documentLoader": document_loader(contexts)})
    except (jsonld.JsonLdError, KeyError, TypeError, ValueError) as error:
        raise BadSignature(f"it is no JSON-LD: {error}"[:300]) from error
    if len(found) != 1:
        raise BadSignature("it is about more than one thing")
    node: dict[str, Any] = found[0]
    return node


def unsaid(document: Mapping[str, Any], contexts: Contexts) -> str | None:
    """A term or an id that no context makes an IRI of, which no proof would cover; None if all is said."""
    first, *others = listed(document.get("@context"))
    # Where no other vocabulary is set, what is unknown falls to this one.
    probe = {**document, "@context": [first, {"@vocab": UNMAPPED}, *others]}
    return _unsaid(expand(probe, contexts))


def _unsaid(value: Any) -> str | None:
    if isinstance(value, list):
        return next(filter(None, (_unsaid(each) for each in value)), None)
    if not isinstance(value, dict):
        return None
    for name in (*value, *listed(value.get("@type"))):
        if name.startswith(UNMAPPED):
            return str(name).removeprefix(UNMAPPED)
    id = value.get("@id", "_:")
    if not URL.fullmatch(id) and not id.startswith("_:"):
        return str(id)
    return _unsaid(list(value.values()))


def find_key(resolver: DidResolverRegistry, did: str, method: str | None, purpose: str) -> str:
    """The public key of a DID, as PEM, that is meant for a purpose; BadSignature, or DidError."""
    found = resolver.resolve(did).key_for_purpose(method, purpose)
    if found is None or not found.public_key_jwk:
        raise BadSignature(f"{did} has no key {method or ''} for this".replace("  ", " "))
    try:
        public = jwt.PyJWK(dict(found.public_key_jwk)).key
    except (jwt.PyJWTError, ValueError) as error:
        raise BadSignature(f"the key {method} cannot be read: {error}") from error
    return str(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def verify(document: Json, purpose: str, resolver: DidResolverRegistry, contexts: Contexts) -> dict[str, Any]:
    """The node that the proof covers. BadSignature, or the library's errors, where it does not verify."""
    proof = document.get("proof")
    method = proof.get("verificationMethod") if isinstance(proof, Mapping) else None
    if not isinstance(method, str):
        raise BadSignature("it has no proof that names a key")
    pem = find_key(resolver, method.partition("#")[0], method, purpose)
    # Before the graph is made once more here: this bounds what making it may cost.
    verify_data_integrity_proof(document, pem, expected_proof_purpose=purpose, extra_contexts=contexts)
    return expand({name: value for name, value in document.items() if name != "proof"}, contexts)


def issuer_of(node: Mapping[str, Any]) -> str | None:
    found = node.get(f"{VC}issuer", [{}])
    return found[0].get("@id") if len(found) == 1 else None


def standing_of(node: Mapping[str, Any]) -> Json:
    """What tells when a credential is valid and where its status is, by the usual names."""
    found: Json = {}
    for name in PERIOD:
        values = node.get(VC + name, [])
        if len(values) > 1:
            raise BadSignature(f"it has more than one {name}")
        if values:
            found[name] = values[0].get("@value")
    found["credentialStatus"] = [_status(entry) for entry in node.get(f"{VC}credentialStatus", [])]
    return found


def _status(entry: Mapping[str, Any]) -> Json:
    types = [name.removeprefix(STATUS) for name in entry.get("@type", [])]
    members: Json = {"id": entry.get("@id"), "type": types[0] if len(types) == 1 else types}
    for name in STATUS_MEMBERS:
        for value in entry.get(STATUS + name, []):
            members[name] = value.get("@value", value.get("@id"))
    return members
