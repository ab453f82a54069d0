"""Who and what seeded badges are about: issuers, keys, achievements, pictures, users."""

import hashlib
import struct
import uuid
import zlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from obms.badges import Seal, Site, keys, profiles
from obms.badges.seeding_keys import make_rsa
from obms.badges.seeding_words import ACHIEVEMENTS, ISSUERS
from obms.domain import Achievement, Algorithm, Alignment, Criteria, Image, Issuer
from obms.gate import hash_key

# All times of seeded rows lie before it.
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
OPENED = EPOCH - timedelta(days=5 * 365)
ROTATED = EPOCH - timedelta(days=2 * 365)
PICTURE_SIZE = 48


def _opened() -> datetime:
    return OPENED


def _rotated() -> datetime:
    return ROTATED


def seeded_id(seed: int, *names: object) -> str:
    """The id that a thing of this seed has each time."""
    digest = hashlib.sha256("/".join(map(str, ("obms seed", seed, *names))).encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))


@dataclass(frozen=True, slots=True, kw_only=True)
class SeededKey:
    """A key with its private part, open: it is handed to the processes that sign."""

    id: str
    algorithm: Algorithm
    private: bytes
    retired: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """Everything credentials of a seed refer to; the same in each process."""

    seed: int
    site_url: str
    issuers: tuple[Issuer, ...]
    achievements: tuple[tuple[Achievement, ...], ...]
    keys: tuple[tuple[SeededKey, ...], ...]


def make_cast(site: Site, seed: int) -> Cast:
    """The keys come from SECRET_KEY and the seed, so that nobody else can sign for the seeded issuers."""
    seal = site.require_seal()
    numbers = range(len(ISSUERS))
    issuers = tuple(_issuer(site.base_url, seed, number) for number in numbers)
    return Cast(
        seed=seed,
        site_url=site.base_url,
        issuers=issuers,
        achievements=tuple(_achievements(site.base_url, seed, issuer) for issuer in issuers),
        keys=tuple(_keys(seal, seed, number) for number in numbers),
    )


def _keys(seal: Seal, seed: int, number: int) -> tuple[SeededKey, ...]:
    """Every second issuer has changed its key once; the first one has an RSA key too, at the end."""
    found = [
        SeededKey(
            id=seeded_id(seed, "key", number, turn),
            algorithm=keys.ED25519,
            private=seal.derive(f"seeded key {seed}/{number}/{turn}", 32),
            retired=turn == 1,
        )
        for turn in range(1 + number % 2)
    ]
    if number == 0:
        private = keys.private_bytes(make_rsa(seal.derive, f"seeded RSA key {seed}"))
        id = seeded_id(seed, "RSA key", number)
        found.append(SeededKey(id=id, algorithm=keys.RSA, private=private, retired=False))
    return tuple(found)


def _picture_url(site_url: str, seed: int, number: int) -> str:
    return f"{site_url}/assets/{picture_name(seed, number)}"


def picture_name(seed: int, number: int) -> str:
    return f"seed-{seed}-{number}.{'svg' if _is_vector(number) else 'png'}"


def _is_vector(number: int) -> bool:
    return number % 3 == 1


def _issuer(site_url: str, seed: int, number: int) -> Issuer:
    name, description, host = ISSUERS[number]
    return Issuer(
        id=seeded_id(seed, "issuer", number),
        name=name,
        url=f"https://{host}/",
        email=f"badges@{host}",
        description=description,
        image=Image(url=_picture_url(site_url, seed, number), caption=f"🖼️ {name}"),
        created_at=OPENED,
        updated_at=OPENED,
    )


def _achievements(site_url: str, seed: int, issuer: Issuer) -> tuple[Achievement, ...]:
    return tuple(
        Achievement(
            id=seeded_id(seed, "achievement", issuer.id, number),
            issuer_id=issuer.id,
            name=name,
            description=description,
            criteria=Criteria(url=f"{issuer.url}criteria/{number}", narrative=f"{description} ✅"),
            achievement_type="Certificate" if number % 2 else "Badge",
            image=Image(url=_picture_url(site_url, seed, number), caption=name),
            tags=tags,
            alignments=(
                Alignment(target_name=f"ESCO · {name}", target_url=f"https://esco.example.org/{number}"),
            ),
            version="1.0",
            created_at=OPENED + timedelta(days=number),
            updated_at=OPENED + timedelta(days=number),
        )
        for number, (name, description, tags) in enumerate(ACHIEVEMENTS)
    )


def key_rows(site: Site, cast: Cast) -> list[dict[str, Any]]:
    """Sealed with a nonce that is made from the seed; each key is sealed once with it."""
    rows = []
    for issuer, own in zip(cast.issuers, cast.keys, strict=True):
        for key in own:
            private = keys.read_private(key.algorithm, key.private)
            nonce = site.require_seal().derive(f"seeded nonce {key.id}", 12)
            made = replace(site, clock=_opened if key.retired else _rotated)
            row = keys.key_row(made, issuer.id, private, id=key.id, nonce=nonce)
            rows.append(row | {"retired_at": ROTATED if key.retired else None})
    return rows


def picture(red: int, green: int, blue: int) -> bytes:
    """A small PNG of one colour, whole and valid."""
    line = b"\x00" + bytes((red, green, blue)) * PICTURE_SIZE
    head = struct.pack(">IIBBBBB", PICTURE_SIZE, PICTURE_SIZE, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(line * PICTURE_SIZE, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def vector(red: int, green: int, blue: int) -> bytes:
    """A small SVG of one colour."""
    circle = f'<circle cx="5" cy="5" r="5" fill="#{red:02x}{green:02x}{blue:02x}"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10">{circle}</svg>'.encode()


def image_rows(cast: Cast) -> list[dict[str, Any]]:
    return [_image_row(cast.seed, number) for number in range(max(len(ISSUERS), len(ACHIEVEMENTS)))]


def _image_row(seed: int, number: int) -> dict[str, Any]:
    draw = vector if _is_vector(number) else picture
    return {
        "id": seeded_id(seed, "image", number),
        "name": picture_name(seed, number),
        "media_type": "image/svg+xml" if _is_vector(number) else "image/png",
        "content": draw(*hashlib.sha256(f"{seed}/{number}".encode()).digest()[:3]),
        "created_at": OPENED,
    }


def user_rows(site: Site, cast: Cast) -> dict[str, list[dict[str, Any]]]:
    """Per issuer an owner and one of the staff, each with a role and an API key; and one admin."""
    rows: dict[str, list[dict[str, Any]]] = {"users": [], "user_roles": [], "api_keys": []}
    people: list[tuple[str, Issuer | None]] = [("admin", None)]
    people += [(role, issuer) for issuer in cast.issuers for role in ("owner", "staff")]
    for role, issuer in people:
        name = f"{role}-{cast.seed}-{issuer.id[:8] if issuer else 'all'}"
        user_id = seeded_id(cast.seed, "user", name)
        key = site.require_seal().derive(f"seeded API key {cast.seed}/{name}", 32).hex()
        ids = {kind: seeded_id(cast.seed, kind, name) for kind in ("role", "api key")}
        rows["users"].append(
            {"id": user_id, "username": f"{name}-ü字", "email": f"{name}@example.org", "created_at": OPENED}
        )
        rows["user_roles"].append(
            {"id": ids["role"], "user_id": user_id, "role": role, "issuer_id": issuer.id if issuer else None}
        )
        rows["api_keys"].append(
            {
                "id": ids["api key"],
                "user_id": user_id,
                "description": f"{role} 🔑",
                "hash": hash_key(f"obms_{key}"),
                "created_at": OPENED,
            }
        )
    return rows


def profile_rows(cast: Cast) -> dict[str, list[dict[str, Any]]]:
    return {
        "issuers": [profiles.issuer_row(issuer) for issuer in cast.issuers],
        "achievements": [
            profiles.achievement_row(achievement) for own in cast.achievements for achievement in own
        ],
    }
