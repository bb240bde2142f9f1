"""A store in memory. It passes the same contract tests as the one in PostgreSQL."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from typing import TypeVar
from uuid import UUID, uuid4

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

T = TypeVar("T", Organisation, Member, Conversation, Message)


@dataclass
class Data:
    """Everything of one organisation."""

    organisation: Organisation | None = None
    members: dict[UUID, Member] = field(default_factory=dict)
    tokens: dict[bytes, UUID] = field(default_factory=dict)
    conversations: dict[UUID, Conversation] = field(default_factory=dict)
    messages: dict[UUID, Message] = field(default_factory=dict)


class MemoryStore:
    """``gym_api.store.Store`` without a database."""

    def __init__(self) -> None:
        self.data: dict[UUID, Data] = {}
        self.positions = count(1)
        #: What ``check`` raises.
        self.fault: Exception | None = None
        self.closed = False

    @asynccontextmanager
    async def tenant(self, organisation_id: UUID) -> AsyncIterator[MemoryTenant]:
        before = copy.deepcopy(self.data)
        try:
            yield MemoryTenant(self, organisation_id)
        except BaseException:
            self.data = before
            raise

    async def caller(self, digest: bytes) -> Caller | None:
        for organisation_id, data in self.data.items():
            if member_id := data.tokens.get(digest):
                role = data.members[member_id].role
                return Caller(organisation_id=organisation_id, member_id=member_id, role=role)
        return None

    async def check(self) -> None:
        if self.fault:
            raise self.fault

    async def close(self) -> None:
        self.closed = True


class MemoryTenant:
    """``gym_api.store.Tenant`` without a database."""

    def __init__(self, store: MemoryStore, organisation_id: UUID) -> None:
        self.store = store
        self.id = organisation_id

    @property
    def data(self) -> Data:
        return self.store.data.get(self.id, Data())

    async def organisation(self) -> Organisation:
        return _found(self.data.organisation)

    async def add_organisation(self, name: str, slug: str) -> Organisation:
        taken = [data.organisation for data in self.store.data.values() if data.organisation]
        if any(organisation.slug == slug for organisation in taken):
            raise Conflict("the slug is taken")
        organisation = Organisation(id=self.id, name=name, slug=slug, created_at=_now())
        self.store.data[self.id] = Data(organisation=organisation)
        return organisation

    async def remove_organisation(self) -> None:
        self.store.data.pop(self.id, None)

    async def members(self) -> Sequence[Member]:
        return list(self.data.members.values())

    async def member(self, member_id: UUID) -> Member:
        return _found(self.data.members.get(member_id))

    async def add_member(self, name: str, email: str, role: Role) -> Member:
        if any(member.email == email for member in self.data.members.values()):
            raise Conflict("a member has this address")
        member = Member(id=uuid4(), name=name, email=email, role=role, created_at=_now())
        self.data.members[member.id] = member
        return member

    async def set_role(self, member_id: UUID, role: Role) -> Member:
        member = replace(await self.member(member_id), role=role)
        self.data.members[member_id] = member
        return member

    async def lock_owners(self) -> Sequence[UUID]:
        return [m.id for m in self.data.members.values() if m.role is Role.OWNER]

    async def add_token(self, member_id: UUID, digest: bytes) -> None:
        self.data.tokens[digest] = member_id

    async def revoke_tokens(self, member_id: UUID) -> None:
        for digest in [key for key, owner in self.data.tokens.items() if owner == member_id]:
            del self.data.tokens[digest]

    async def conversations(self) -> Sequence[Conversation]:
        return _newest_first(self.data.conversations.values())

    async def conversation(self, conversation_id: UUID) -> Conversation:
        return _found(self.data.conversations.get(conversation_id))

    async def add_conversation(self, subject: str, opened_by: UUID) -> Conversation:
        conversation = Conversation(
            id=uuid4(), subject=subject, opened_by=opened_by, created_at=_now()
        )
        self.data.conversations[conversation.id] = conversation
        return conversation

    async def messages(
        self, conversation_id: UUID, *, before: int | None, limit: int
    ) -> Sequence[Message]:
        found = [
            message
            for message in self.data.messages.values()
            if message.conversation_id == conversation_id
            and (before is None or message.position < before)
        ]
        return _newest_first(found)[:limit]

    async def message(self, conversation_id: UUID, message_id: UUID) -> Message:
        message = _found(self.data.messages.get(message_id))
        if message.conversation_id != conversation_id:
            raise NotFound("no such message")
        return message

    async def add_message(self, conversation_id: UUID, author_id: UUID, text: str) -> Message:
        message = Message(
            id=uuid4(),
            conversation_id=conversation_id,
            author_id=author_id,
            text=text,
            position=next(self.store.positions),
            created_at=_now(),
        )
        self.data.messages[message.id] = message
        return message

    async def remove_message(self, message_id: UUID) -> None:
        self.data.messages.pop(message_id, None)


def _found(value: T | None) -> T:
    if value is None:
        raise NotFound("no such thing")
    return value


def _newest_first(values: Iterable[T]) -> list[T]:
    return list(values)[::-1]


def _now() -> datetime:
    return datetime.now(UTC)
