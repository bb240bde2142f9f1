"""What every store must do. The unit tests run it on the one in memory, the integration tests on
PostgreSQL."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from gym_api.domain import Conflict, Member, NotFound, Role
from gym_api.store import Store


async def _found(store: Store, slug: str) -> tuple[UUID, Member]:
    organisation_id = uuid4()
    async with store.tenant(organisation_id) as tenant:
        await tenant.add_organisation(slug.title(), slug)
        owner = await tenant.add_member("Ada", "ada@example.org", Role.OWNER)
        await tenant.add_token(owner.id, slug.encode())
    return organisation_id, owner


@pytest.mark.anyio
class StoreContract:
    """Subclasses have a fixture ``store``: empty at the start of each test."""

    async def test_what_was_added_is_found_again(self, store: Store) -> None:
        organisation_id, owner = await _found(store, "north")
        async with store.tenant(organisation_id) as tenant:
            assert (await tenant.organisation()).slug == "north"
            assert await tenant.members() == [owner]
            assert await tenant.member(owner.id) == owner

    async def test_a_block_that_raises_leaves_nothing(self, store: Store) -> None:
        organisation_id, _ = await _found(store, "north")

        async def fail_midway() -> None:
            async with store.tenant(organisation_id) as tenant:
                await tenant.add_member("Bo", "bo@example.org", Role.MEMBER)
                raise RuntimeError("on purpose")

        with pytest.raises(RuntimeError, match="on purpose"):
            await fail_midway()
        async with store.tenant(organisation_id) as tenant:
            assert len(await tenant.members()) == 1

    async def test_nothing_of_another_organisation_is_visible(self, store: Store) -> None:
        north, owner = await _found(store, "north")
        south, _ = await _found(store, "south")
        async with store.tenant(north) as tenant:
            conversation = await tenant.add_conversation("Knees", owner.id)
            message = await tenant.add_message(conversation.id, owner.id, "They hurt.")
        async with store.tenant(south) as tenant:
            assert owner not in await tenant.members()
            assert await tenant.conversations() == []
            assert await tenant.messages(conversation.id, before=None, limit=10) == []
            with pytest.raises(NotFound):
                await tenant.member(owner.id)
            with pytest.raises(NotFound):
                await tenant.conversation(conversation.id)
            with pytest.raises(NotFound):
                await tenant.message(conversation.id, message.id)

    async def test_nothing_of_another_organisation_can_be_changed(self, store: Store) -> None:
        north, owner = await _found(store, "north")
        south, _ = await _found(store, "south")
        async with store.tenant(north) as tenant:
            conversation = await tenant.add_conversation("Knees", owner.id)
            message = await tenant.add_message(conversation.id, owner.id, "They hurt.")
        async with store.tenant(south) as tenant:
            await tenant.remove_message(message.id)
            await tenant.revoke_tokens(owner.id)
            with pytest.raises(NotFound):
                await tenant.set_role(owner.id, Role.MEMBER)
        async with store.tenant(north) as tenant:
            assert await tenant.message(conversation.id, message.id) == message
        assert await store.caller(b"north") is not None

    async def test_a_token_names_its_member(self, store: Store) -> None:
        organisation_id, owner = await _found(store, "north")
        await _found(store, "south")
        caller = await store.caller(b"north")
        assert caller is not None
        assert (caller.organisation_id, caller.member_id) == (organisation_id, owner.id)
        assert caller.role is Role.OWNER
        assert await store.caller(b"west") is None

    async def test_a_revoked_token_names_nobody(self, store: Store) -> None:
        organisation_id, owner = await _found(store, "north")
        async with store.tenant(organisation_id) as tenant:
            await tenant.revoke_tokens(owner.id)
        assert await store.caller(b"north") is None

    async def test_a_slug_belongs_to_one_organisation(self, store: Store) -> None:
        await _found(store, "north")
        with pytest.raises(Conflict):
            await _found(store, "north")

    async def test_an_address_belongs_to_one_member_of_an_organisation(self, store: Store) -> None:
        organisation_id, _ = await _found(store, "north")
        await _found(store, "south")
        with pytest.raises(Conflict):
            async with store.tenant(organisation_id) as tenant:
                await tenant.add_member("Eve", "ada@example.org", Role.MEMBER)

    async def test_a_changed_role_stays_and_owners_are_known(self, store: Store) -> None:
        organisation_id, owner = await _found(store, "north")
        async with store.tenant(organisation_id) as tenant:
            other = await tenant.add_member("Bo", "bo@example.org", Role.MEMBER)
            assert await tenant.lock_owners() == [owner.id]
            assert (await tenant.set_role(other.id, Role.OWNER)).role is Role.OWNER
        async with store.tenant(organisation_id) as tenant:
            assert set(await tenant.lock_owners()) == {owner.id, other.id}

    async def test_messages_come_newest_first_a_page_at_a_time(self, store: Store) -> None:
        organisation_id, owner = await _found(store, "north")
        async with store.tenant(organisation_id) as tenant:
            conversation = await tenant.add_conversation("Knees", owner.id)
            for number in range(5):
                await tenant.add_message(conversation.id, owner.id, str(number))
            first = await tenant.messages(conversation.id, before=None, limit=3)
            second = await tenant.messages(conversation.id, before=first[-1].position, limit=3)
        assert [message.text for message in (*first, *second)] == ["4", "3", "2", "1", "0"]

    async def test_a_removed_message_is_gone(self, store: Store) -> None:
        organisation_id, owner = await _found(store, "north")
        async with store.tenant(organisation_id) as tenant:
            conversation = await tenant.add_conversation("Knees", owner.id)
            message = await tenant.add_message(conversation.id, owner.id, "oops")
            await tenant.remove_message(message.id)
            with pytest.raises(NotFound):
                await tenant.message(conversation.id, message.id)

    async def test_a_removed_organisation_takes_everything_with_it(self, store: Store) -> None:
        organisation_id, owner = await _found(store, "north")
        await _found(store, "south")
        async with store.tenant(organisation_id) as tenant:
            conversation = await tenant.add_conversation("Knees", owner.id)
            await tenant.add_message(conversation.id, owner.id, "They hurt.")
        async with store.tenant(organisation_id) as tenant:
            await tenant.remove_organisation()
        assert await store.caller(b"north") is None
        assert await store.caller(b"south") is not None
        async with store.tenant(organisation_id) as tenant:
            assert await tenant.members() == []
            with pytest.raises(NotFound):
                await tenant.organisation()

    async def test_a_sound_store_passes_its_check(self, store: Store) -> None:
        await store.check()
