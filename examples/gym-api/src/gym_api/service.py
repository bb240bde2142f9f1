"""The rules: who may do what. Everything else about a request is in ``api``."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID, uuid4

from gym_api import tokens
from gym_api.domain import Caller, Conflict, Conversation, Forbidden, Member, Organisation, Role
from gym_api.store import Store, Tenant


@dataclass(frozen=True, kw_only=True)
class SignUp:
    """A new organisation, its owner, and the owner's token, which is shown only here."""

    organisation: Organisation
    owner: Member
    token: str


async def sign_up(store: Store, *, name: str, slug: str, owner: str, email: str) -> SignUp:
    """Make an organisation with one owner."""
    token = tokens.new_token()
    async with store.tenant(uuid4()) as tenant:
        organisation = await tenant.add_organisation(name, slug)
        member = await tenant.add_member(owner, email, Role.OWNER)
        await tenant.add_token(member.id, tokens.digest(token))
    return SignUp(organisation=organisation, owner=member, token=token)


async def close_organisation(tenant: Tenant, caller: Caller) -> None:
    """Remove the caller's organisation and everything in it."""
    require(caller, Role.OWNER)
    await tenant.remove_organisation()


async def add_member(
    tenant: Tenant, caller: Caller, *, name: str, email: str, role: Role
) -> tuple[Member, str]:
    """A new member and a token for them."""
    require(caller, Role.OWNER)
    member = await tenant.add_member(name, email, role)
    token = tokens.new_token()
    await tenant.add_token(member.id, tokens.digest(token))
    return member, token


async def set_role(tenant: Tenant, caller: Caller, member_id: UUID, role: Role) -> Member:
    """Change what a member may do. An organisation always has an owner."""
    require(caller, Role.OWNER)
    owners = await tenant.lock_owners()
    if role is not Role.OWNER and list(owners) == [member_id]:
        raise Conflict("the last owner cannot give up the role")
    return await tenant.set_role(member_id, role)


async def replace_tokens(tenant: Tenant, caller: Caller, member_id: UUID) -> str:
    """Revoke a member's tokens and issue one. Members may do so for themselves."""
    if caller.member_id != member_id:
        require(caller, Role.OWNER)
    await tenant.member(member_id)
    await tenant.revoke_tokens(member_id)
    token = tokens.new_token()
    await tenant.add_token(member_id, tokens.digest(token))
    return token


async def open_conversation(tenant: Tenant, caller: Caller, subject: str) -> Conversation:
    """Start a thread."""
    require(caller, Role.OWNER, Role.TRAINER)
    return await tenant.add_conversation(subject, caller.member_id)


async def remove_message(
    tenant: Tenant, caller: Caller, conversation_id: UUID, message_id: UUID
) -> None:
    """Remove a message: one's own, or any as an owner."""
    message = await tenant.message(conversation_id, message_id)
    if message.author_id != caller.member_id:
        require(caller, Role.OWNER)
    await tenant.remove_message(message_id)


def require(caller: Caller, *roles: Role) -> None:
    """Raises Forbidden unless the caller has one of the roles."""
    if caller.role not in roles:
        raise Forbidden(f"this needs the role {' or '.join(roles)}")
