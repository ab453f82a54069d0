"""The tables, one MetaData for SQLite and PostgreSQL.

Ids are bare UUIDs in text; URLs and `urn:uuid:` forms are made at the edge. The signed document of
a credential is text, kept byte for byte as it was signed.
"""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

IMAGE_LIMIT = 5 * 1024 * 1024
PURPOSES = ("revocation", "suspension")

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Timestamp(sa.TypeDecorator[datetime]):
    """An aware time, kept in UTC; a naive one is refused (ValueError)."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"naive time {value!r}: every time carries its zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Json = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _id(name: str = "id") -> sa.Column[str]:
    return sa.Column(name, sa.Text, primary_key=True)


def _time(name: str, *, nullable: bool = False) -> sa.Column[datetime]:
    return sa.Column(name, Timestamp, nullable=nullable)


def _json(name: str) -> sa.Column[Any]:
    return sa.Column(name, Json)


images = sa.Table(
    "images",
    metadata,
    _id(),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("media_type", sa.Text, nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
    _time("created_at"),
    sa.CheckConstraint(f"length(content) <= {IMAGE_LIMIT}", name="size"),
)

# A deleted issuer leaves the API, and its row stays: its keys and lists go on to answer for its badges.
issuers = sa.Table(
    "issuers",
    metadata,
    _id(),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("email", sa.Text),
    sa.Column("description", sa.Text),
    _json("image"),
    _json("extra"),
    _time("created_at"),
    _time("updated_at"),
    _time("deleted_at", nullable=True),
)

achievements = sa.Table(
    "achievements",
    metadata,
    _id(),
    sa.Column("issuer_id", sa.Text, sa.ForeignKey("issuers.id"), nullable=False, index=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("achievement_type", sa.Text),
    _json("criteria"),
    _json("image"),
    _json("tags"),
    _json("extra"),
    _time("created_at"),
    _time("updated_at"),
)

# `related_id` is the bare id of an achievement here, or the URL of another's; `id` is made of both ends.
related_achievements = sa.Table(
    "related_achievements",
    metadata,
    _id(),
    sa.Column("achievement_id", sa.Text, sa.ForeignKey("achievements.id"), nullable=False, index=True),
    sa.Column("related_id", sa.Text, nullable=False, index=True),
    sa.Column("in_language", sa.Text),
    sa.Column("version", sa.Text),
    _time("created_at"),
    sa.UniqueConstraint("achievement_id", "related_id"),
)

# What others say for an achievement: `document` as they signed it; `proven` where its proof was checked.
endorsements = sa.Table(
    "endorsements",
    metadata,
    _id(),
    sa.Column("achievement_id", sa.Text, sa.ForeignKey("achievements.id"), nullable=False, index=True),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("proven", sa.Boolean, nullable=False),
    _time("created_at"),
)

# The private part is sealed with SECRET_KEY. Retired keys stay, so that old badges verify.
signing_keys = sa.Table(
    "signing_keys",
    metadata,
    _id(),
    sa.Column("issuer_id", sa.Text, sa.ForeignKey("issuers.id"), nullable=False),
    sa.Column("algorithm", sa.Text, nullable=False),
    sa.Column("public_pem", sa.Text, nullable=False),
    sa.Column("sealed_private", sa.LargeBinary, nullable=False),
    _time("created_at"),
    _time("retired_at", nullable=True),
)
# One key in use per issuer and algorithm, however many workers start at once.
sa.Index(
    "uq_signing_keys_active",
    signing_keys.c.issuer_id,
    signing_keys.c.algorithm,
    unique=True,
    sqlite_where=signing_keys.c.retired_at.is_(None),
    postgresql_where=signing_keys.c.retired_at.is_(None),
)

credentials = sa.Table(
    "credentials",
    metadata,
    _id(),
    sa.Column("issuer_id", sa.Text, sa.ForeignKey("issuers.id"), nullable=False, index=True),
    sa.Column("achievement_id", sa.Text, sa.ForeignKey("achievements.id"), nullable=False, index=True),
    sa.Column("key_id", sa.Text, sa.ForeignKey("signing_keys.id"), nullable=False, index=True),
    sa.Column("proof", sa.Text, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
    _json("recipient"),
    _json("extra"),
    _time("issued_at"),
    _time("expires_at", nullable=True),
    _time("created_at"),
    _time("updated_at", nullable=True),
    sa.Index("ix_credentials_created_at", "created_at", "id"),
    sa.CheckConstraint("proof IN ('data-integrity', 'jwt')", name="proof"),
)
# Few are signed anew.
sa.Index(
    "ix_credentials_updated_at",
    credentials.c.updated_at,
    sqlite_where=credentials.c.updated_at.is_not(None),
    postgresql_where=credentials.c.updated_at.is_not(None),
)

# `next_index` only grows, so that an index is never given twice, not even after a delete.
# `document` is the signed list as last served; it is stale when `changed_at` is later than `signed_at`.
# `ttl` is in milliseconds, as the list tells it.
status_lists = sa.Table(
    "status_lists",
    metadata,
    _id(),
    sa.Column("issuer_id", sa.Text, sa.ForeignKey("issuers.id"), nullable=False, index=True),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("next_index", sa.Integer, nullable=False),
    sa.Column("document", sa.Text),
    _time("signed_at", nullable=True),
    _time("changed_at"),
    sa.Column("ttl", sa.Integer),
    sa.CheckConstraint("purpose IN ('revocation', 'suspension')", name="purpose"),
    sa.CheckConstraint("next_index <= size", name="next_index"),
)

# No foreign key to credentials: an entry outlives its credential, whose badge may still be shown.
status_entries = sa.Table(
    "status_entries",
    metadata,
    sa.Column("credential_id", sa.Text, primary_key=True),
    sa.Column("purpose", sa.Text, primary_key=True),
    sa.Column("list_id", sa.Text, sa.ForeignKey("status_lists.id"), nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("value", sa.Boolean, nullable=False),
    sa.UniqueConstraint("list_id", "position"),
)
# The bits that are set are few, and are what a list is made of.
sa.Index(
    "ix_status_entries_set",
    status_entries.c.list_id,
    status_entries.c.position,
    sqlite_where=status_entries.c.value,
    postgresql_where=status_entries.c.value,
)
# A condition that finds them by this index: SQLite does not take it for `value = 1`, as a Boolean is written.
BIT_IS_SET: sa.ColumnElement[bool] = sa.literal_column("status_entries.value")

# What was revoked or suspended, when and why; a lifted suspension leaves, a revocation never does.
revocations = sa.Table(
    "revocations",
    metadata,
    sa.Column("credential_id", sa.Text, primary_key=True),
    sa.Column("purpose", sa.Text, primary_key=True),
    sa.Column("reason", sa.Text),
    _time("revoked_at"),
    sa.ForeignKeyConstraint(
        ["credential_id", "purpose"],
        ["status_entries.credential_id", "status_entries.purpose"],
        name="fk_revocations_entry",
    ),
)

# `sessions_since` ends every session that is older: a new password, or a closed account.
users = sa.Table(
    "users",
    metadata,
    _id(),
    sa.Column("username", sa.Text, nullable=False, unique=True),
    sa.Column("email", sa.Text, nullable=False, unique=True),
    sa.Column("password_hash", sa.Text),
    _time("created_at"),
    _time("disabled_at", nullable=True),
    _time("sessions_since", nullable=True),
)

# `issuer_id` is empty for the role that holds everywhere (admin).
user_roles = sa.Table(
    "user_roles",
    metadata,
    _id(),
    sa.Column("user_id", sa.Text, sa.ForeignKey("users.id"), nullable=False, index=True),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("issuer_id", sa.Text, sa.ForeignKey("issuers.id")),
    sa.CheckConstraint("role IN ('admin', 'owner', 'editor', 'staff')", name="role"),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    _id(),
    sa.Column("user_id", sa.Text, sa.ForeignKey("users.id"), nullable=False, index=True),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False, unique=True),
    _time("created_at"),
    _time("expires_at", nullable=True),
    _time("revoked_at", nullable=True),
)

audit_events = sa.Table(
    "audit_events",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    _time("at"),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False, index=True),
    _json("detail"),
)
