"""What requests and answers look like."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, StringConstraints

from gym_api.domain import Role

Name = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$"
    ),
]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$")]
Email = Annotated[
    str,
    StringConstraints(
        to_lower=True, max_length=254, pattern=r"^[^@\s\x00]+@[^@\s\x00]+\.[^@\s\x00]+$"
    ),
]
# PostgreSQL's text holds everything but NUL.
Text = Annotated[str, StringConstraints(min_length=1, max_length=8000, pattern=r"^[^\x00]*$")]


class Request(BaseModel):
    """A body that a caller sends: nothing but the known keys."""

    model_config = ConfigDict(extra="forbid")


class Answer(BaseModel):
    """A body that a caller gets, made from a domain value."""

    model_config = ConfigDict(from_attributes=True)


class OwnerIn(Request):
    name: Name
    email: Email


class OrganisationIn(Request):
    name: Name
    slug: Slug
    owner: OwnerIn


class MemberIn(Request):
    name: Name
    email: Email
    role: Role = Role.MEMBER


class RoleIn(Request):
    role: Role


class ConversationIn(Request):
    subject: Name


class MessageIn(Request):
    text: Text


class OrganisationOut(Answer):
    id: UUID
    name: str
    slug: str
    created_at: datetime


class MemberOut(Answer):
    id: UUID
    name: str
    email: str
    role: Role
    created_at: datetime


class TokenOut(Answer):
    """A token is shown here and never again."""

    token: str


class NewMemberOut(TokenOut):
    member: MemberOut


class SignUpOut(TokenOut):
    organisation: OrganisationOut
    owner: MemberOut


class ConversationOut(Answer):
    id: UUID
    subject: str
    opened_by: UUID
    created_at: datetime


class MessageOut(Answer):
    id: UUID
    author_id: UUID
    text: str
    position: int
    created_at: datetime


class MessagesOut(Answer):
    """A page, newest first. Ask for ``before=next`` to go on; null at the end."""

    messages: list[MessageOut]
    next: int | None


class ReadyOut(Answer):
    status: str
    version: str
