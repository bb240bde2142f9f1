"""Organisations, members, tokens, conversations and messages, isolated by row-level security.

The service acts as the role ``gym_api_app``, which owns nothing, so that the policies hold
whoever connects: a superuser too. They are forced on the owner as well.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ROLE = "gym_api_app"
TABLES = ("member", "api_token", "conversation", "message")
CURRENT = "nullif(current_setting('app.organisation', true), '')::uuid"
TOKEN = "decode(nullif(current_setting('app.token', true), ''), 'hex')"  # noqa: S105 # nosec B105


def upgrade() -> None:
    _create_organisation()
    _create_member()
    _create_token()
    _create_conversation()
    _create_message()
    _create_role()
    _isolate()


def downgrade() -> None:
    for table in ("message", "conversation", "api_token", "member", "organisation"):
        op.drop_table(table)


def _created_at() -> sa.Column[object]:
    return sa.Column(
        "created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")
    )


def _organisation_id(table: str) -> tuple[sa.Column[object], sa.ForeignKeyConstraint]:
    return (
        sa.Column("organisation_id", sa.Uuid, nullable=False),
        sa.ForeignKeyConstraint(
            ["organisation_id"],
            ["organisation.id"],
            name=f"{table}_organisation_id_fkey",
            ondelete="CASCADE",
        ),
    )


def _create_organisation() -> None:
    op.create_table(
        "organisation",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("slug", sa.Text, nullable=False),
        _created_at(),
        sa.PrimaryKeyConstraint("id", name="organisation_pkey"),
        sa.UniqueConstraint("slug", name="organisation_slug_key"),
    )


def _create_member() -> None:
    op.create_table(
        "member",
        *_organisation_id("member"),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        _created_at(),
        sa.PrimaryKeyConstraint("organisation_id", "id", name="member_pkey"),
        sa.UniqueConstraint("organisation_id", "email", name="member_organisation_id_email_key"),
    )


def _create_token() -> None:
    op.create_table(
        "api_token",
        sa.Column("digest", sa.LargeBinary, nullable=False),
        *_organisation_id("api_token"),
        sa.Column("member_id", sa.Uuid, nullable=False),
        _created_at(),
        sa.PrimaryKeyConstraint("digest", name="api_token_pkey"),
        sa.ForeignKeyConstraint(
            ["organisation_id", "member_id"],
            ["member.organisation_id", "member.id"],
            name="api_token_organisation_id_member_id_fkey",
            ondelete="CASCADE",
        ),
    )
    op.create_index(
        "api_token_organisation_id_member_id_idx", "api_token", ["organisation_id", "member_id"]
    )


def _create_conversation() -> None:
    op.create_table(
        "conversation",
        *_organisation_id("conversation"),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("opened_by", sa.Uuid, nullable=False),
        _created_at(),
        sa.PrimaryKeyConstraint("organisation_id", "id", name="conversation_pkey"),
        sa.ForeignKeyConstraint(
            ["organisation_id", "opened_by"],
            ["member.organisation_id", "member.id"],
            name="conversation_organisation_id_opened_by_fkey",
        ),
    )


def _create_message() -> None:
    op.create_table(
        "message",
        *_organisation_id("message"),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("conversation_id", sa.Uuid, nullable=False),
        sa.Column("author_id", sa.Uuid, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("position", sa.BigInteger, sa.Identity(always=True), nullable=False),
        _created_at(),
        sa.PrimaryKeyConstraint("organisation_id", "id", name="message_pkey"),
        sa.ForeignKeyConstraint(
            ["organisation_id", "conversation_id"],
            ["conversation.organisation_id", "conversation.id"],
            name="message_organisation_id_conversation_id_fkey",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["organisation_id", "author_id"],
            ["member.organisation_id", "member.id"],
            name="message_organisation_id_author_id_fkey",
        ),
    )
    op.create_index(
        "message_organisation_id_conversation_id_position_idx",
        "message",
        ["organisation_id", "conversation_id", "position"],
    )


def _create_role() -> None:
    # Roles belong to the whole server, where another database may have made it already.
    op.execute(
        f"""
        DO $$ BEGIN
          CREATE ROLE {ROLE} NOLOGIN NOINHERIT;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END $$
        """
    )
    op.execute(
        f"""
        DO $$ BEGIN
          IF NOT pg_has_role(current_user, '{ROLE}', 'MEMBER') THEN
            EXECUTE format('GRANT {ROLE} TO %I', current_user);
          END IF;
          IF NOT has_schema_privilege('{ROLE}', current_schema(), 'USAGE') THEN
            EXECUTE format('GRANT USAGE ON SCHEMA %I TO {ROLE}', current_schema());
          END IF;
        END $$
        """
    )
    op.execute(
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON organisation, {', '.join(TABLES)} TO {ROLE}"
    )


def _isolate() -> None:
    for table in ("organisation", *TABLES):
        key = "id" if table == "organisation" else "organisation_id"
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY tenant ON {table} USING ({key} = {CURRENT})"
            f" WITH CHECK ({key} = {CURRENT})"
        )
    # Whoever shows a token may see which organisation and member it is of, and no other row.
    op.execute(f"CREATE POLICY bearer ON api_token FOR SELECT USING (digest = {TOKEN})")
