"""The words of the service, as frozen values, and what can go wrong."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class Role(StrEnum):
    """What a member may do."""

    #: Everything, members and their tokens included.
    OWNER = "owner"
    #: Opens conversations.
    TRAINER = "trainer"
    #: Reads and writes messages.
    MEMBER = "member"


@dataclass(frozen=True, kw_only=True)
class Organisation:
    """A gym: a tenant. Nothing of one is ever visible to another."""

    id: UUID
    name: str
    slug: str
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class Member:
    """A person in one organisation."""

    id: UUID
    name: str
    email: str
    role: Role
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """A thread of messages that every member of its organisation can read."""

    id: UUID
    subject: str
    opened_by: UUID
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class Message:
    """One message. ``position`` rises within a conversation, with gaps."""

    id: UUID
    conversation_id: UUID
    author_id: UUID
    text: str
    position: int
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who a token belongs to."""

    organisation_id: UUID
    member_id: UUID
    role: Role


class DomainError(Exception):
    """Base of what a caller is told."""


class NotFound(DomainError):  # noqa: N818
    """There is no such thing, in the caller's organisation."""


class Forbidden(DomainError):  # noqa: N818
    """The caller's role does not allow it."""


class Conflict(DomainError):  # noqa: N818
    """It clashes with what is there."""
