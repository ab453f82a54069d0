"""Related achievements, endorsements, and when an issuer was deleted or a credential signed anew."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("issuers", sa.Column("deleted_at", TIME, nullable=True))
    op.add_column("credentials", sa.Column("updated_at", TIME, nullable=True))
    op.create_index(
        "ix_credentials_updated_at",
        "credentials",
        ["updated_at"],
        unique=False,
        sqlite_where=sa.text("updated_at IS NOT NULL"),
        postgresql_where=sa.text("updated_at IS NOT NULL"),
    )
    op.create_table(
        "related_achievements",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("achievement_id", sa.Text(), nullable=False),
        sa.Column("related_id", sa.Text(), nullable=False),
        sa.Column("in_language", sa.Text(), nullable=True),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["achievement_id"], ["achievements.id"], name=op.f("fk_related_achievements_achievement_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_related_achievements")),
        sa.UniqueConstraint(
            "achievement_id", "related_id", name=op.f("uq_related_achievements_achievement_id_related_id")
        ),
    )
    op.create_index(
        op.f("ix_related_achievements_achievement_id"), "related_achievements", ["achievement_id"]
    )
    op.create_index(op.f("ix_related_achievements_related_id"), "related_achievements", ["related_id"])
    op.create_table(
        "endorsements",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("achievement_id", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("proven", sa.Boolean(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["achievement_id"], ["achievements.id"], name=op.f("fk_endorsements_achievement_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_endorsements")),
    )
    op.create_index(op.f("ix_endorsements_achievement_id"), "endorsements", ["achievement_id"])
