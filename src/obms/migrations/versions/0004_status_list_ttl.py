"""How long a status list may be kept by who has fetched it."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("status_lists", sa.Column("ttl", sa.Integer(), nullable=True))
