"""Callers of the API, in a few words."""

from __future__ import annotations

from dataclasses import dataclass

import httpx


@dataclass
class Person:
    """A member with a token."""

    client: httpx.AsyncClient
    id: str
    token: str

    async def call(self, method: str, path: str, json: object = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        return await self.client.request(method, f"/v1{path}", json=json, headers=headers)

    async def invites(self, name: str, role: str) -> Person:
        body = {"name": name, "email": f"{name}@example.org", "role": role}
        answer = await self.call("POST", "/members", body)
        assert answer.status_code == 201, answer.text
        return Person(self.client, answer.json()["member"]["id"], answer.json()["token"])


async def sign_up(client: httpx.AsyncClient, slug: str) -> Person:
    """The owner of a new organisation."""
    owner = {"name": "Ada", "email": "ada@example.org"}
    body = {"name": slug.title(), "slug": slug, "owner": owner}
    answer = await client.post("/v1/organisations", json=body)
    assert answer.status_code == 201, answer.text
    return Person(client, answer.json()["owner"]["id"], answer.json()["token"])
