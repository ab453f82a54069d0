"""Accounts that can be closed, and sessions that end."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("users", sa.Column("disabled_at", TIME, nullable=True))
    op.add_column("users", sa.Column("sessions_since", TIME, nullable=True))
