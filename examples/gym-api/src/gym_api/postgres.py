"""The store in PostgreSQL.

Each transaction takes the application's role and names its organisation, both only until it
ends; row-level security does the rest. So a query here never filters by organisation, and one
that forgot to could not leak. It holds for a superuser's DATABASE_URL as well.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Executable, RowMapping, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from gym_api.domain import (
    Caller,
    Conflict,
    Conversation,
    Member,
    Message,
    NotFound,
    Organisation,
    Role,
)
from gym_api.tables import APP_ROLE, api_token, conversation, member, message, organisation

#: Constraint to what a caller is told.
CONFLICTS = {
    "organisation_slug_key": "the slug is taken",
    "member_organisation_id_email_key": "a member has this address",
}

ORGANISATION = (
    organisation.c.id,
    organisation.c.name,
    organisation.c.slug,
    organisation.c.created_at,
)
MEMBER = (member.c.id, member.c.name, member.c.email, member.c.role, member.c.created_at)
CONVERSATION = (
    conversation.c.id,
    conversation.c.subject,
    conversation.c.opened_by,
    conversation.c.created_at,
)
MESSAGE = (
    message.c.id,
    message.c.conversation_id,
    message.c.author_id,
    message.c.text,
    message.c.position,
    message.c.created_at,
)


class PostgresStore:
    """``Store`` over a pool of connections to ``url``."""

    def __init__(self, url: str, *, pool_size: int = 5) -> None:
        self._engine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_pre_ping=True,
            pool_timeout=5,
            connect_args={"connect_timeout": 5, "application_name": "gym-api"},
        )

    @asynccontextmanager
    async def tenant(self, organisation_id: UUID) -> AsyncIterator[PostgresTenant]:
        """A transaction that sees this organisation only."""
        try:
            async with self._transaction("app.organisation", str(organisation_id)) as connection:
                yield PostgresTenant(connection, organisation_id)
        except IntegrityError as error:
            constraint = getattr(getattr(error.orig, "diag", None), "constraint_name", None)
            if constraint not in CONFLICTS:
                raise
            raise Conflict(CONFLICTS[constraint]) from error

    async def caller(self, digest: bytes) -> Caller | None:
        """Whose token has this digest."""
        async with self._transaction("app.token", digest.hex()) as connection:
            columns = (api_token.c.organisation_id, api_token.c.member_id)
            token = (await connection.execute(select(*columns))).one_or_none()
            if token is None:
                return None
            await connection.execute(_local("app.organisation", str(token.organisation_id)))
            query = select(member.c.role).where(member.c.id == token.member_id)
            role = (await connection.execute(query)).scalar_one()
        return Caller(
            organisation_id=token.organisation_id, member_id=token.member_id, role=Role(role)
        )

    async def check(self) -> None:
        """Connects, takes the role and reads a table: so the migrations have run, too."""
        async with self._transaction("app.organisation", "") as connection:
            await connection.execute(select(organisation.c.id).limit(1))

    async def close(self) -> None:
        """Close the pool."""
        await self._engine.dispose()

    @asynccontextmanager
    async def _transaction(self, setting: str, value: str) -> AsyncIterator[AsyncConnection]:
        async with self._engine.begin() as connection:
            await connection.execute(
                select(
                    func.set_config("role", APP_ROLE, True), func.set_config(setting, value, True)
                )
            )
            yield connection


class PostgresTenant:
    """``Tenant`` in one transaction."""

    def __init__(self, connection: AsyncConnection, organisation_id: UUID) -> None:
        self._connection = connection
        self._organisation_id = organisation_id

    async def organisation(self) -> Organisation:
        return Organisation(**await self._one(select(*ORGANISATION), "organisation"))

    async def add_organisation(self, name: str, slug: str) -> Organisation:
        values = {"id": self._organisation_id, "name": name, "slug": slug}
        statement = insert(organisation).values(values).returning(*ORGANISATION)
        return Organisation(**await self._one(statement, "organisation"))

    async def remove_organisation(self) -> None:
        # Row-level security makes it one row; the condition is for whoever reads this.
        await self._connection.execute(
            delete(organisation).where(organisation.c.id == self._organisation_id)
        )

    async def members(self) -> Sequence[Member]:
        query = select(*MEMBER).order_by(member.c.created_at, member.c.id)
        rows = await self._connection.execute(query)
        return [Member(**_values(row._mapping)) for row in rows]

    async def member(self, member_id: UUID) -> Member:
        query = select(*MEMBER).where(member.c.id == member_id)
        return Member(**await self._one(query, "member"))

    async def add_member(self, name: str, email: str, role: Role) -> Member:
        values = self._new(name=name, email=email, role=role.value)
        statement = insert(member).values(values).returning(*MEMBER)
        return Member(**await self._one(statement, "member"))

    async def set_role(self, member_id: UUID, role: Role) -> Member:
        statement = update(member).where(member.c.id == member_id).values(role=role.value)
        return Member(**await self._one(statement.returning(*MEMBER), "member"))

    async def lock_owners(self) -> Sequence[UUID]:
        query = select(member.c.id).where(member.c.role == Role.OWNER.value)
        locked = query.order_by(member.c.id).with_for_update()
        return list((await self._connection.execute(locked)).scalars())

    async def add_token(self, member_id: UUID, digest: bytes) -> None:
        await self._connection.execute(
            insert(api_token).values(
                digest=digest, organisation_id=self._organisation_id, member_id=member_id
            )
        )

    async def revoke_tokens(self, member_id: UUID) -> None:
        await self._connection.execute(delete(api_token).where(api_token.c.member_id == member_id))

    async def conversations(self) -> Sequence[Conversation]:
        query = select(*CONVERSATION).order_by(conversation.c.created_at.desc(), conversation.c.id)
        rows = await self._connection.execute(query)
        return [Conversation(**row._mapping) for row in rows]

    async def conversation(self, conversation_id: UUID) -> Conversation:
        query = select(*CONVERSATION).where(conversation.c.id == conversation_id)
        return Conversation(**await self._one(query, "conversation"))

    async def add_conversation(self, subject: str, opened_by: UUID) -> Conversation:
        values = self._new(subject=subject, opened_by=opened_by)
        statement = insert(conversation).values(values).returning(*CONVERSATION)
        return Conversation(**await self._one(statement, "conversation"))

    async def messages(
        self, conversation_id: UUID, *, before: int | None, limit: int
    ) -> Sequence[Message]:
        query = select(*MESSAGE).where(message.c.conversation_id == conversation_id)
        if before is not None:
            query = query.where(message.c.position < before)
        rows = await self._connection.execute(
            query.order_by(message.c.position.desc()).limit(limit)
        )
        return [Message(**row._mapping) for row in rows]

    async def message(self, conversation_id: UUID, message_id: UUID) -> Message:
        query = select(*MESSAGE).where(
            message.c.conversation_id == conversation_id, message.c.id == message_id
        )
        return Message(**await self._one(query, "message"))

    async def add_message(self, conversation_id: UUID, author_id: UUID, text: str) -> Message:
        values = self._new(conversation_id=conversation_id, author_id=author_id, text=text)
        statement = insert(message).values(values).returning(*MESSAGE)
        return Message(**await self._one(statement, "message"))

    async def remove_message(self, message_id: UUID) -> None:
        await self._connection.execute(delete(message).where(message.c.id == message_id))

    def _new(self, **values: object) -> dict[str, object]:
        return {"id": uuid4(), "organisation_id": self._organisation_id, **values}

    async def _one(self, statement: Executable, what: str) -> dict[str, Any]:
        row = (await self._connection.execute(statement)).one_or_none()
        if row is None:
            raise NotFound(f"no such {what}")
        return _values(row._mapping)


def _values(row: RowMapping) -> dict[str, Any]:
    values = dict(row)
    return values | {"role": Role(values["role"])} if "role" in values else values


def _local(setting: str, value: str) -> Executable:
    return select(func.set_config(setting, value, True))
