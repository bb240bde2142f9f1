"""Answers to registries that ask who is there: a login, or a token that another server gives.

https://distribution.github.io/distribution/spec/auth/token/
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import httpx

from ci.engine.images.challenge import Challenge, challenges
from ci.engine.images.credentials import Login
from ci.engine.images.endpoint import Endpoint, is_loopback
from ci.engine.images.failures import AccessDenied, RegistryError, login_hint

__all__ = ["Authorisations"]

_CLIENT = "towpath"

#: Sends a request as often as is worth it, and reads the whole response.
Fetch = Callable[[httpx.Request], Awaitable[httpx.Response]]


class Authorisations:
    """``Authorization`` headers that served, by registry, scope and login."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._known: dict[tuple[Endpoint, str, Login | None], str] = {}

    def known(self, endpoint: Endpoint, scope: str, login: Login | None) -> str | None:
        """The header that served last time."""
        return self._known.get((endpoint, scope, login))

    async def answer(
        self, endpoint: Endpoint, header: str, login: Login | None, scope: str
    ) -> str | None:
        """Answer the challenges of a ``WWW-Authenticate``; None where there is no answer.

        Raises:
            AccessDenied: the server that gives tokens refuses.
            RegistryError: it answers otherwise than it should, or not at all.
        """
        for challenge in challenges(header):
            value: str | None = None
            if challenge.scheme == "bearer":
                value = "Bearer " + await self._token(endpoint, challenge, login, scope)
            elif login is not None and login.password:
                value = login.basic()
            if value is not None:
                self._known[endpoint, scope, login] = value
                return value
        return None

    async def _token(
        self, endpoint: Endpoint, challenge: Challenge, login: Login | None, scope: str
    ) -> str:
        """Get a token from the realm that the challenge names."""
        realm = _realm(endpoint, challenge)
        facts = {"service": challenge.parameters.get("service", "")}
        query = {name: value for name, value in facts.items() if value}
        if login is not None and login.identity_token:
            form = {
                **query, "scope": scope, "grant_type": "refresh_token", "client_id": _CLIENT,
                "refresh_token": login.identity_token,
            }  # fmt: skip
            request = httpx.Request("POST", realm, data=form)
        else:
            headers = {} if login is None else {"Authorization": login.basic()}
            # One parameter for each scope: servers do not agree on several in one.
            url = realm.copy_merge_params({**query, "scope": scope.split(" ")})
            request = httpx.Request("GET", url, headers=headers)
        response = await self._fetch(request)
        if response.status_code != httpx.codes.OK:
            kind = AccessDenied if response.status_code in {400, 401, 403, 404} else RegistryError
            raise kind(
                f"registry {endpoint.host}",
                got=f"{response.status_code} from {realm.host}, which gives its tokens",
                hint=login_hint(endpoint, login) if kind is AccessDenied else "",
            )
        return _read_token(response, endpoint)


def _realm(endpoint: Endpoint, challenge: Challenge) -> httpx.URL:
    """Where tokens are given. A password goes nowhere in plain text, but on this machine.

    Raises:
        RegistryError: it is no place to go to.
    """
    text = challenge.parameters.get("realm", "")
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.host and (url.scheme == "https" or (url.scheme == "http" and is_loopback(url.host))):
        return url
    raise RegistryError(
        f"registry {endpoint.host}",
        got=f"{text[:200]!r} as the place that gives its tokens",
        expected="an https URL",
    )


def _read_token(response: httpx.Response, endpoint: Endpoint) -> str:
    try:
        value = json.loads(response.content)
        token = value.get("token") or value.get("access_token")
    except (ValueError, RecursionError, AttributeError):
        token = None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise RegistryError(
            f"registry {endpoint.host}",
            got=f"an answer without a token from {response.url.host}, which gives its tokens",
            expected="JSON with a token",
        )
    return token
