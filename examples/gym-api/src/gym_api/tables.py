"""The tables. Each row names its organisation, which row-level security compares with the
transaction's; foreign keys carry it too, so that no row can point into another organisation."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)

#: What the service acts as: it owns nothing, and row-level security holds for it.
APP_ROLE = "gym_api_app"

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)


def _organisation_id(*, primary_key: bool = False) -> Column[object]:
    return Column(
        "organisation_id",
        Uuid,
        ForeignKey("organisation.id", ondelete="CASCADE"),
        primary_key=primary_key,
        nullable=False,
    )


def _created_at() -> Column[object]:
    return Column(
        "created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")
    )


organisation = Table(
    "organisation",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("slug", Text, nullable=False, unique=True),
    _created_at(),
)

member = Table(
    "member",
    metadata,
    _organisation_id(primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("email", Text, nullable=False),
    Column("role", Text, nullable=False),
    _created_at(),
    UniqueConstraint("organisation_id", "email"),
)

api_token = Table(
    "api_token",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    _organisation_id(),
    Column("member_id", Uuid, nullable=False),
    _created_at(),
    ForeignKeyConstraint(
        ["organisation_id", "member_id"],
        ["member.organisation_id", "member.id"],
        ondelete="CASCADE",
    ),
    Index(None, "organisation_id", "member_id"),
)

conversation = Table(
    "conversation",
    metadata,
    _organisation_id(primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("opened_by", Uuid, nullable=False),
    _created_at(),
    ForeignKeyConstraint(["organisation_id", "opened_by"], ["member.organisation_id", "member.id"]),
)

message = Table(
    "message",
    metadata,
    _organisation_id(primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("conversation_id", Uuid, nullable=False),
    Column("author_id", Uuid, nullable=False),
    Column("text", Text, nullable=False),
    Column("position", BigInteger, Identity(always=True), nullable=False),
    _created_at(),
    ForeignKeyConstraint(
        ["organisation_id", "conversation_id"],
        ["conversation.organisation_id", "conversation.id"],
        ondelete="CASCADE",
    ),
    ForeignKeyConstraint(["organisation_id", "author_id"], ["member.organisation_id", "member.id"]),
    Index(None, "organisation_id", "conversation_id", "position"),
)

#: Under row-level security: all of them.
TENANT_TABLES = ("organisation", "member", "api_token", "conversation", "message")
