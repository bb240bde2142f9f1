"""What the service needs of a database. The tests have a second implementation, in memory, and
both pass the same contract tests."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol
from uuid import UUID

from gym_api.domain import Caller, Conversation, Member, Message, Organisation, Role


class Tenant(Protocol):
    """One organisation's data, in one transaction. What is of others cannot be seen or named."""

    async def organisation(self) -> Organisation: ...

    async def add_organisation(self, name: str, slug: str) -> Organisation:
        """Raises Conflict when the slug is taken, by whomever."""
        ...

    async def remove_organisation(self) -> None:
        """With everything in it."""
        ...

    async def members(self) -> Sequence[Member]: ...

    async def member(self, member_id: UUID) -> Member: ...

    async def add_member(self, name: str, email: str, role: Role) -> Member:
        """Raises Conflict when the organisation has a member of that address."""
        ...

    async def set_role(self, member_id: UUID, role: Role) -> Member: ...

    async def lock_owners(self) -> Sequence[UUID]:
        """The owners, who cannot change before the transaction ends."""
        ...

    async def add_token(self, member_id: UUID, digest: bytes) -> None: ...

    async def revoke_tokens(self, member_id: UUID) -> None: ...

    async def conversations(self) -> Sequence[Conversation]:
        """Newest first."""
        ...

    async def conversation(self, conversation_id: UUID) -> Conversation: ...

    async def add_conversation(self, subject: str, opened_by: UUID) -> Conversation: ...

    async def messages(
        self, conversation_id: UUID, *, before: int | None, limit: int
    ) -> Sequence[Message]:
        """Newest first, below position ``before``."""
        ...

    async def message(self, conversation_id: UUID, message_id: UUID) -> Message: ...

    async def add_message(self, conversation_id: UUID, author_id: UUID, text: str) -> Message: ...

    async def remove_message(self, message_id: UUID) -> None: ...


class Store(Protocol):
    """Where everything is kept. Lookups of one thing raise NotFound."""

    def tenant(self, organisation_id: UUID) -> AbstractAsyncContextManager[Tenant]:
        """A transaction: kept when the block ends well, undone when it raises."""
        ...

    async def caller(self, digest: bytes) -> Caller | None:
        """Whose token has this digest."""
        ...

    async def check(self) -> None:
        """Raises where the database cannot serve requests."""
        ...

    async def close(self) -> None: ...
