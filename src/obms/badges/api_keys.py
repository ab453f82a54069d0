"""API keys of users: made, listed, revoked. A key is shown once and kept as its hash."""

import secrets
import uuid
from datetime import datetime

import sqlalchemy as sa

from obms.badges import Site
from obms.errors import NotFound
from obms.gate import hash_key
from obms.schema import api_keys

SHOWN = [column for column in api_keys.c if column.name != "hash"]


def make_key(
    connection: sa.Connection,
    site: Site,
    user_id: str,
    description: str,
    expires_at: datetime | None = None,
) -> tuple[str, str]:
    """A new API key of a user: its id, and the key itself, which is nowhere else."""
    key, id = f"obms_{secrets.token_urlsafe(32)}", str(uuid.uuid4())
    connection.execute(
        sa.insert(api_keys).values(
            id=id,
            user_id=user_id,
            description=description,
            hash=hash_key(key),
            created_at=site.clock(),
            expires_at=expires_at,
        )
    )
    return id, key


def list_keys(connection: sa.Connection, user_id: str) -> list[sa.RowMapping]:
    """The keys of a user, revoked ones too, newest first; none with its hash."""
    query = sa.select(*SHOWN).where(api_keys.c.user_id == user_id)
    return list(connection.execute(query.order_by(api_keys.c.created_at.desc(), api_keys.c.id)).mappings())


def find_key(connection: sa.Connection, key_id: str) -> sa.RowMapping:
    """The key, or NotFound."""
    row = connection.execute(sa.select(*SHOWN).where(api_keys.c.id == key_id)).mappings().one_or_none()
    if row is None:
        raise NotFound(what="API key", id=key_id)
    return row


def revoke_key(connection: sa.Connection, key_id: str, moment: datetime) -> bool:
    """Whether it was not revoked yet."""
    open_one = sa.and_(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
    done = connection.execute(sa.update(api_keys).where(open_one).values(revoked_at=moment))
    return done.rowcount > 0
