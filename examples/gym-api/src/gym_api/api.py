"""The routes under /v1: from HTTP to the rules and back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, HTTPException, Query, Request

from gym_api import service, tokens
from gym_api.domain import Caller, Conversation, Member, Message, Organisation
from gym_api.schemas import (
    ConversationIn,
    ConversationOut,
    MemberIn,
    MemberOut,
    MessageIn,
    MessageOut,
    MessagesOut,
    NewMemberOut,
    OrganisationIn,
    OrganisationOut,
    RoleIn,
    SignUpOut,
    TokenOut,
)
from gym_api.store import Store, Tenant

router = APIRouter(prefix="/v1")


def get_store(request: Request) -> Store:
    """The application's store."""
    store: Store = request.app.state.store
    return store


StoreDep = Annotated[Store, Depends(get_store)]


async def get_caller(request: Request, store: StoreDep) -> Caller:
    """Who asks; 401 where nobody can tell."""
    token = tokens.from_header(request.headers.get("authorization"))
    caller = await store.caller(tokens.digest(token)) if token else None
    if caller is None:
        raise HTTPException(
            401, "a valid API token is needed", headers={"WWW-Authenticate": "Bearer"}
        )
    return caller


CallerDep = Annotated[Caller, Depends(get_caller)]


async def get_tenant(store: StoreDep, caller: CallerDep) -> AsyncIterator[Tenant]:
    """The caller's organisation, in a transaction that ends before the answer is sent."""
    async with store.tenant(caller.organisation_id) as tenant:
        yield tenant


TenantDep = Annotated[Tenant, Depends(get_tenant, scope="function")]


@router.post("/organisations", status_code=201, response_model=SignUpOut)
async def sign_up(body: OrganisationIn, store: StoreDep) -> service.SignUp:
    """Make an organisation. The answer holds its owner's token, once."""
    return await service.sign_up(
        store, name=body.name, slug=body.slug, owner=body.owner.name, email=body.owner.email
    )


@router.get("/organisation", response_model=OrganisationOut)
async def read_organisation(tenant: TenantDep) -> Organisation:
    """The caller's organisation."""
    return await tenant.organisation()


@router.delete("/organisation", status_code=204)
async def close_organisation(tenant: TenantDep, caller: CallerDep) -> None:
    """Remove the caller's organisation and everything in it. For owners."""
    await service.close_organisation(tenant, caller)


@router.get("/me", response_model=MemberOut)
async def read_me(tenant: TenantDep, caller: CallerDep) -> Member:
    """The caller."""
    return await tenant.member(caller.member_id)


@router.get("/members", response_model=list[MemberOut])
async def list_members(tenant: TenantDep) -> list[Member]:
    """Everybody in the organisation."""
    return list(await tenant.members())


@router.post("/members", status_code=201)
async def add_member(body: MemberIn, tenant: TenantDep, caller: CallerDep) -> NewMemberOut:
    """Add somebody. The answer holds their token, once. For owners."""
    member, token = await service.add_member(
        tenant, caller, name=body.name, email=body.email, role=body.role
    )
    return NewMemberOut(member=MemberOut.model_validate(member), token=token)


@router.patch("/members/{member_id}", response_model=MemberOut)
async def set_role(member_id: UUID, body: RoleIn, tenant: TenantDep, caller: CallerDep) -> Member:
    """Change somebody's role. For owners."""
    return await service.set_role(tenant, caller, member_id, body.role)


@router.put("/members/{member_id}/token")
async def replace_tokens(member_id: UUID, tenant: TenantDep, caller: CallerDep) -> TokenOut:
    """Revoke somebody's tokens and issue a new one. For oneself, and for owners."""
    return TokenOut(token=await service.replace_tokens(tenant, caller, member_id))


@router.get("/conversations", response_model=list[ConversationOut])
async def list_conversations(tenant: TenantDep) -> list[Conversation]:
    """All conversations, newest first."""
    return list(await tenant.conversations())


@router.post("/conversations", status_code=201, response_model=ConversationOut)
async def open_conversation(
    body: ConversationIn, tenant: TenantDep, caller: CallerDep
) -> Conversation:
    """Start a conversation. For owners and trainers."""
    return await service.open_conversation(tenant, caller, body.subject)


@router.get("/conversations/{conversation_id}", response_model=ConversationOut)
async def read_conversation(conversation_id: UUID, tenant: TenantDep) -> Conversation:
    """One conversation."""
    return await tenant.conversation(conversation_id)


@router.get("/conversations/{conversation_id}/messages")
async def list_messages(
    conversation_id: UUID,
    tenant: TenantDep,
    before: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> MessagesOut:
    """A page of messages, newest first."""
    await tenant.conversation(conversation_id)
    found = await tenant.messages(conversation_id, before=before, limit=limit)
    return MessagesOut(
        messages=[MessageOut.model_validate(message) for message in found],
        next=found[-1].position if len(found) == limit else None,
    )


@router.post(
    "/conversations/{conversation_id}/messages", status_code=201, response_model=MessageOut
)
async def add_message(
    conversation_id: UUID, body: MessageIn, tenant: TenantDep, caller: CallerDep
) -> Message:
    """Write a message."""
    await tenant.conversation(conversation_id)
    return await tenant.add_message(conversation_id, caller.member_id, body.text)


@router.delete("/conversations/{conversation_id}/messages/{message_id}", status_code=204)
async def remove_message(
    conversation_id: UUID, message_id: UUID, tenant: TenantDep, caller: CallerDep
) -> None:
    """Remove one's own message, or any as an owner."""
    await service.remove_message(tenant, caller, conversation_id, message_id)
