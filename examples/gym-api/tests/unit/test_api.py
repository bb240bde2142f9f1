from __future__ import annotations

from uuid import uuid4

import httpx
import pytest
from support.people import Person, sign_up

pytestmark = pytest.mark.anyio


async def conversation(owner: Person) -> str:
    answer = await owner.call("POST", "/conversations", {"subject": "Knees"})
    assert answer.status_code == 201
    return f"/conversations/{answer.json()['id']}"


async def test_a_sign_up_makes_an_organisation_with_an_owner(client: httpx.AsyncClient) -> None:
    owner = await sign_up(client, "north")
    assert (await owner.call("GET", "/organisation")).json()["slug"] == "north"
    me = (await owner.call("GET", "/me")).json()
    assert (me["id"], me["role"], me["email"]) == (owner.id, "owner", "ada@example.org")


async def test_a_taken_slug_is_a_conflict(client: httpx.AsyncClient) -> None:
    await sign_up(client, "north")
    owner = {"name": "Eve", "email": "eve@example.org"}
    answer = await client.post(
        "/v1/organisations", json={"name": "N", "slug": "north", "owner": owner}
    )
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == "the slug is taken"


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer gym_unknown"}])
async def test_without_a_known_token_the_answer_is_401(
    client: httpx.AsyncClient, header: dict[str, str]
) -> None:
    answer = await client.get("/v1/me", headers=header)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "N", "slug": "Not A Slug", "owner": {"name": "A", "email": "a@example.org"}},
        {"name": "N", "slug": "n", "owner": {"name": "A", "email": "nobody"}},
        {"name": "N\0", "slug": "n", "owner": {"name": "A", "email": "a@example.org"}},
        {"name": "N", "slug": "n", "owner": {"name": "A", "email": "a@example.org"}, "more": 1},
    ],
)
async def test_an_invalid_body_is_told_where(client: httpx.AsyncClient, body: object) -> None:
    answer = await client.post("/v1/organisations", json=body)
    assert answer.status_code == 422
    assert all(error["at"].startswith("body") for error in answer.json()["errors"])


async def test_only_an_owner_adds_members(client: httpx.AsyncClient) -> None:
    owner = await sign_up(client, "north")
    trainer = await owner.invites("tom", "trainer")
    body = {"name": "Bo", "email": "bo@example.org"}
    answer = await trainer.call("POST", "/members", body)
    assert (answer.status_code, answer.json()["detail"]) == (403, "this needs the role owner")
    names = [member["name"] for member in (await trainer.call("GET", "/members")).json()]
    assert names == ["Ada", "tom"]


async def test_the_last_owner_stays_one(client: httpx.AsyncClient) -> None:
    owner = await sign_up(client, "north")
    other = await owner.invites("bo", "member")
    path = f"/members/{owner.id}"
    assert (await owner.call("PATCH", path, {"role": "member"})).status_code == 409
    answer = await owner.call("PATCH", f"/members/{other.id}", {"role": "owner"})
    assert answer.json()["role"] == "owner"
    assert (await owner.call("PATCH", path, {"role": "member"})).status_code == 200


async def test_a_replaced_token_no_longer_works(client: httpx.AsyncClient) -> None:
    owner = await sign_up(client, "north")
    member = await owner.invites("bo", "member")
    answer = await member.call("PUT", f"/members/{member.id}/token")
    assert answer.status_code == 200
    assert (await member.call("GET", "/me")).status_code == 401
    member.token = answer.json()["token"]
    assert (await member.call("GET", "/me")).status_code == 200


async def test_members_do_not_replace_the_tokens_of_others(client: httpx.AsyncClient) -> None:
    owner = await sign_up(client, "north")
    member = await owner.invites("bo", "member")
    assert (await member.call("PUT", f"/members/{owner.id}/token")).status_code == 403
    assert (await owner.call("PUT", f"/members/{uuid4()}/token")).status_code == 404


async def test_trainers_open_conversations_and_members_do_not(client: httpx.AsyncClient) -> None:
    owner = await sign_up(client, "north")
    trainer = await owner.invites("tom", "trainer")
    member = await owner.invites("bo", "member")
    assert (await member.call("POST", "/conversations", {"subject": "S"})).status_code == 403
    path = await conversation(trainer)
    assert (await member.call("GET", path)).json()["opened_by"] == trainer.id
    assert len((await member.call("GET", "/conversations")).json()) == 1


async def test_messages_are_paged_without_loss_or_repetition(client: httpx.AsyncClient) -> None:
    owner = await sign_up(client, "north")
    path = f"{await conversation(owner)}/messages"
    for number in range(5):
        answer = await owner.call("POST", path, {"text": str(number)})
        assert answer.status_code == 201
    texts, query = [], "?limit=2"
    while query:
        page = (await owner.call("GET", path + query)).json()
        texts += [message["text"] for message in page["messages"]]
        query = f"?limit=2&before={page['next']}" if page["next"] else ""
    assert texts == ["4", "3", "2", "1", "0"]


async def test_authors_and_owners_remove_messages_and_others_do_not(
    client: httpx.AsyncClient,
) -> None:
    owner = await sign_up(client, "north")
    author = await owner.invites("bo", "member")
    other = await owner.invites("cy", "member")
    path = f"{await conversation(owner)}/messages"

    async def write() -> str:
        return f"{path}/{(await author.call('POST', path, {'text': 'hi'})).json()['id']}"

    first, second = await write(), await write()
    assert (await other.call("DELETE", first)).status_code == 403
    assert (await author.call("DELETE", first)).status_code == 204
    assert (await author.call("DELETE", first)).status_code == 404
    assert (await owner.call("DELETE", second)).status_code == 204


async def test_what_is_of_another_organisation_is_not_found(client: httpx.AsyncClient) -> None:
    north, south = await sign_up(client, "north"), await sign_up(client, "south")
    path = await conversation(north)
    assert (await south.call("GET", path)).status_code == 404
    assert (await south.call("GET", f"{path}/messages")).status_code == 404
    assert (await south.call("POST", f"{path}/messages", {"text": "hi"})).status_code == 404
    change = await south.call("PATCH", f"/members/{north.id}", {"role": "member"})
    assert change.status_code == 404


async def test_a_closed_organisation_is_gone_with_its_tokens(client: httpx.AsyncClient) -> None:
    owner = await sign_up(client, "north")
    member = await owner.invites("bo", "member")
    assert (await member.call("DELETE", "/organisation")).status_code == 403
    assert (await owner.call("DELETE", "/organisation")).status_code == 204
    assert (await member.call("GET", "/me")).status_code == 401
