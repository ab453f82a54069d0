"""The public key of a foreign issuer: found by the name that a proof gives, and bound to the issuer."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from openbadgeslib.ob3.did import fetch_did_web_document, pem_for_kid, resolve_did
from openvc.did.base import DidResolverRegistry
from openvc.did.did_jwk import DidJwkResolver
from openvc.errors import OpenvcError

from obms.badges import graphs
from obms.badges.fetching import Visit
from obms.badges.inquiry import Fault
from obms.badges.reading import id_of, listed, read_object
from obms.specs import Json

RSA_BITS = 2048
CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


def find_key(issuer: str, method: str | None, visit: Visit) -> str:
    """The key as PEM. Fault unless the issuer itself says that the key is its own.

    An issuer is a `did:key`, a `did:jwk`, a `did:web`, or a web address at which it names its keys.
    """
    if method is not None and method.startswith("#"):
        method = issuer + method
    if issuer.startswith("did:key:"):
        return _of_did_key(issuer, method)
    if issuer.startswith("did:jwk:"):
        return _of_did_jwk(issuer, method)
    if issuer.startswith("did:web:"):
        return _of_did_web(issuer, method, visit)
    if issuer.startswith("https://"):
        return _of_address(issuer, method, visit)
    raise Fault(f"the issuer {issuer[:200]} is neither a did:key, a did:jwk, a did:web nor on https")


def _of_did_key(issuer: str, method: str | None) -> str:
    if method is not None and method not in (issuer, f"{issuer}#{issuer.removeprefix('did:key:')}"):
        raise Fault(f"the key {method[:200]} is not the issuer's")
    return resolve_did(issuer).decode()


def _of_did_jwk(issuer: str, method: str | None) -> str:
    try:
        return graphs.find_key(DidResolverRegistry([DidJwkResolver()]), issuer, method, "assertionMethod")
    except OpenvcError as error:
        raise Fault(f"the key of {issuer[:200]} cannot be read: {error}") from error


def _of_did_web(issuer: str, method: str | None, visit: Visit) -> str:
    document = fetch_did_web_document(issuer, download=visit)
    if document.get("id") != issuer:
        raise Fault(f"the document of {issuer[:200]} is another's")
    asserting = [id_of(each) for each in listed(document.get("assertionMethod"))]
    if method is not None and asserting and not {method, "#" + method.partition("#")[2]} & set(asserting):
        raise Fault(f"the issuer does not issue with the key {method[:200]}")
    return pem_for_kid(document, issuer, method).decode()


def _of_address(issuer: str, method: str | None, visit: Visit) -> str:
    """A key at a web address of the same origin as the issuer's, that names the issuer as its owner."""
    if method is None or _origin(method) != _origin(issuer):
        raise Fault(f"nothing ties the key {str(method)[:200]} to the issuer {issuer[:200]}")
    document = read_object(visit(method.partition("#")[0]))
    for key in _keys_in(document):
        owner = id_of(key.get("controller")) or id_of(document)
        if _names(key, method) and owner in (issuer, None):
            jwk = key if "kty" in key else key.get("publicKeyJwk")
            found = {"publicKeyJwk": jwk} if jwk else key
            return pem_for_kid({"verificationMethod": [found]}, issuer).decode()
    raise Fault(f"there is no key of the issuer at {method[:200]}")


def _keys_in(document: Json) -> Iterator[dict[str, Any]]:
    """The document itself, the methods of a controller document, the keys of a JWK set."""
    parts = [document, *listed(document.get("verificationMethod")), *listed(document.get("assertionMethod"))]
    parts += listed(document.get("keys"))
    yield from (part for part in parts if isinstance(part, dict))


def _names(key: dict[str, Any], method: str) -> bool:
    if not {"kty", "publicKeyJwk", "publicKeyMultibase"} & set(key):
        return False
    name = key.get("id") or key.get("kid")
    return name in (method, "#" + method.partition("#")[2], method.partition("#")[2]) or (
        name is None and "#" not in method
    )


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()


def algorithms_of(pem: str) -> list[str]:
    """What a token may be signed with by this key: the header does not choose. Fault for a weak key."""
    key = load_pem_public_key(pem.encode())
    if isinstance(key, ed25519.Ed25519PublicKey):
        return ["EdDSA"]
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in CURVES:
        return [CURVES[key.curve.name]]
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= RSA_BITS:
        return ["RS256", "RS384", "RS512", "PS256"]
    raise Fault("the issuer's key is of a kind that is not taken, or too short")
