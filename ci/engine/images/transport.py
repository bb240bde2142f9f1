"""HTTP to registries: authorisation, retries, and what could not be reached, remembered."""

from __future__ import annotations

import email.utils
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from ci.clock import Clock, SystemClock
from ci.engine.images.challenge import Challenge, challenges
from ci.engine.images.credentials import Credentials, Login
from ci.errors import CiError

__all__ = [
    "AccessDenied",
    "Endpoint",
    "NotInRegistry",
    "RegistryError",
    "Transport",
    "UnreachableRegistry",
]  # fmt: skip

_ATTEMPTS = 5
_FIRST_DELAY = 0.5
#: A registry that asks for more is not waited for. Seconds.
_LONGEST_DELAY = 60.0
_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_CONNECT_SECONDS = 5.0
_READ_SECONDS = 60.0
_CLIENT = "towpath"


class RegistryError(CiError):
    """A registry answered, but not as it should."""


class UnreachableRegistry(RegistryError):
    """A registry's host cannot be reached from here: there was no answer at all."""


class NotInRegistry(RegistryError):
    """The registry knows no such image or blob."""


class AccessDenied(RegistryError):
    """The registry refuses, with or without a login."""


@dataclass(frozen=True)
class Endpoint:
    """Where a registry's API is: a host with port, and a path before its repositories."""

    host: str
    prefix: str = ""
    scheme: str = "https"

    def url(self, path: str) -> str:
        """Of a path below ``/v2/``, which begins with a repository."""
        inner = f"{self.prefix}/{path}" if self.prefix and path else path
        return f"{self.scheme}://{self.host}/v2/{inner}"

    def repository(self, name: str) -> str:
        """The repository's name as this registry knows it."""
        return f"{self.prefix}/{name}" if self.prefix else name


class Transport:
    """Requests to registries. Use as an async context manager.

    A host that could not be reached is not tried again: the error comes at once.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        connect_seconds: float = _CONNECT_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._timeout = httpx.Timeout(_READ_SECONDS, connect=connect_seconds)
        self._transport = transport
        self._client: httpx.AsyncClient | None = None
        #: By host and scope: the header's value.
        self._authorisations: dict[tuple[str, str, str], str] = {}
        self._unreachable: dict[str, str] = {}

    async def close(self) -> None:
        """Close all connections. It can be used again afterwards."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def request(
        self,
        endpoint: Endpoint,
        method: str,
        url: str,
        *,
        credentials: Credentials,
        scope: str,
        ok: Collection[int],
        headers: Mapping[str, str] | None = None,
        body: Callable[[], AsyncIterator[bytes]] | None = None,
        attempts: int = _ATTEMPTS,
    ) -> httpx.Response:
        """One request, repeated where that may help; the whole response.

        Args:
            endpoint: The registry.
            method: Of HTTP.
            url: Absolute.
            credentials: Logins to use where the registry asks for one.
            scope: What the request needs, as ``repository:NAME:pull``.
            ok: Status codes to return; others are errors.
            headers: Of the request.
            body: Gives the content anew for each attempt.
            attempts: How often to try where a failure may pass.

        Raises:
            UnreachableRegistry: there is no way to the host.
            AccessDenied: 401 or 403.
            NotInRegistry: 404.
            RegistryError: any other status.
        """
        async with self.stream(
            endpoint, method, url, credentials=credentials, scope=scope, ok=ok,
            headers=headers, body=body, attempts=attempts,
        ) as response:  # fmt: skip
            await response.aread()
            return response

    @asynccontextmanager
    async def stream(
        self,
        endpoint: Endpoint,
        method: str,
        url: str,
        *,
        credentials: Credentials,
        scope: str,
        ok: Collection[int],
        headers: Mapping[str, str] | None = None,
        body: Callable[[], AsyncIterator[bytes]] | None = None,
        attempts: int = _ATTEMPTS,
    ) -> AsyncIterator[httpx.Response]:
        """As ``request``, with the response's content still to be read."""
        if reason := self._unreachable.get(endpoint.host):
            raise _unreachable(endpoint.host, reason)
        call = _Call(self, endpoint, method, url, credentials, scope, dict(headers or {}), body)
        response = await self._patiently(call.send, endpoint.host, attempts)
        try:
            if response.status_code not in ok:
                await response.aread()
                raise _refused(endpoint.host, method, response)
            yield response
        finally:
            await response.aclose()

    async def _patiently(
        self, send: Callable[[], Awaitable[httpx.Response]], host: str, attempts: int
    ) -> httpx.Response:
        """Repeat what fails for a moment, as often and as late as is worth it."""
        delay = _FIRST_DELAY
        for attempt in range(1, attempts + 1):
            try:
                response = await send()
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
                raise self._no_way(host, error) from error
            except httpx.TransportError as error:
                if attempt == attempts:
                    raise RegistryError(f"registry {host}", got=_said(error)) from error
            else:
                wait = _retry_after(response, delay)
                if response.status_code not in _TRANSIENT or attempt == attempts:
                    return response
                if wait > _LONGEST_DELAY:
                    return response
                await response.aclose()
                delay = max(delay, wait)
            await self._clock.sleep(delay)
            delay *= 2
        raise AssertionError  # the last attempt returns or raises

    def _no_way(self, host: str, error: httpx.TransportError) -> RegistryError:
        """The error of a connection that was not made; remembered unless it is about trust."""
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return RegistryError(
                    f"registry {host}",
                    got=f"a certificate that is not trusted ({cause.verify_message})",
                    hint="add its CA to this machine's, or name a bundle in SSL_CERT_FILE",
                )
            cause = cause.__cause__ or cause.__context__
        self._unreachable[host] = _said(error)
        return _unreachable(host, _said(error))

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send one request as it is; the response's content is still to be read."""
        return await self._http().send(request, stream=True, follow_redirects=True)

    def build(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: Any = None,  # noqa: ANN401
    ) -> httpx.Request:
        """A request for ``send``."""
        return self._http().build_request(method, url, headers=dict(headers), content=content)

    def _http(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(
                timeout=self._timeout,
                verify=_trust(),
                transport=self._transport,
                headers={"User-Agent": _CLIENT},
            )
        return self._client

    # -- authorisation -------------------------------------------------------------------------

    def authorisation(self, host: str, scope: str, who: str) -> str | None:
        """The header that served last time."""
        return self._authorisations.get((host, scope, who))

    async def authorise(
        self, endpoint: Endpoint, header: str, login: Login | None, scope: str
    ) -> str | None:
        """Answer a challenge; None where there is no answer to it."""
        who = login.username if login else ""
        for challenge in challenges(header):
            value: str | None = None
            if challenge.scheme == "bearer":
                value = "Bearer " + await self._token(endpoint, challenge, login, scope)
            elif login is not None and login.password:
                value = login.basic()
            if value is not None:
                self._authorisations[endpoint.host, scope, who] = value
                return value
        return None

    async def _token(
        self, endpoint: Endpoint, challenge: Challenge, login: Login | None, scope: str
    ) -> str:
        """Get a token from the realm that the challenge names."""
        realm = challenge.parameters.get("realm", "")
        facts = {"service": challenge.parameters.get("service", ""), "scope": scope}
        query = {name: value for name, value in facts.items() if value}
        headers: dict[str, str] = {}
        if login is not None and login.identity_token:
            form = {
                **query, "grant_type": "refresh_token", "client_id": _CLIENT,
                "refresh_token": login.identity_token,
            }  # fmt: skip
            request = self._http().build_request("POST", realm, data=form)
        else:
            if login is not None:
                headers["Authorization"] = login.basic()
            request = self._http().build_request("GET", realm, params=query, headers=headers)
        host = request.url.host
        response = await self._patiently(lambda: self.send(request), host, _ATTEMPTS)
        await response.aread()
        if response.status_code != httpx.codes.OK:
            raise AccessDenied(
                f"registry {endpoint.host}",
                got=f"{response.status_code} from {host}, which gives its tokens",
                hint=_login_hint(endpoint.host, login),
            )
        value = response.json()
        return str(value.get("token") or value.get("access_token") or "")


@dataclass
class _Call:
    """One request and what it takes to be let in."""

    transport: Transport
    endpoint: Endpoint
    method: str
    url: str
    credentials: Credentials
    scope: str
    headers: dict[str, str]
    body: Callable[[], AsyncIterator[bytes]] | None

    async def send(self) -> httpx.Response:
        """Send; where the registry asks for authorisation, get it and send again."""
        host = self.endpoint.host
        login = await self.credentials.login(host)
        known = self.transport.authorisation(host, self.scope, login.username if login else "")
        response = await self._send(known)
        if response.status_code != httpx.codes.UNAUTHORIZED:
            return response
        await response.aread()
        header = response.headers.get("WWW-Authenticate", "")
        answer = await self.transport.authorise(self.endpoint, header, login, self.scope)
        if answer is None or answer == known:
            raise AccessDenied(
                f"registry {host}", got="401 Unauthorized", hint=_login_hint(host, login)
            )
        return await self._send(answer)

    async def _send(self, authorisation: str | None) -> httpx.Response:
        headers = dict(self.headers)
        if authorisation:
            headers["Authorization"] = authorisation
        content = self.body() if self.body else None
        return await self.transport.send(
            self.transport.build(self.method, self.url, headers, content)
        )


def _unreachable(host: str, reason: str) -> UnreachableRegistry:
    return UnreachableRegistry(
        f"registry {host}", got=f"no connection ({reason})", expected="an answer"
    )


def _refused(host: str, method: str, response: httpx.Response) -> RegistryError:
    """The error that a status means."""
    status = f"{response.status_code} {response.reason_phrase}".strip()
    got = f"{status} to {method} {response.url.path}{_details(response)}"
    if response.status_code in {401, 403}:
        return AccessDenied(f"registry {host}", got=got, hint=_login_hint(host, None))
    if response.status_code == httpx.codes.NOT_FOUND:
        return NotInRegistry(f"registry {host}", got=got)
    return RegistryError(f"registry {host}", got=got)


def _details(response: httpx.Response) -> str:
    """What the registry says about it, in the form of the distribution specification."""
    try:
        errors = response.json()["errors"]
        said = "; ".join(f"{error['code']}: {error.get('message', '')}" for error in errors)
    except (ValueError, KeyError, TypeError):
        return ""
    return f" ({said})"


def _login_hint(host: str, login: Login | None) -> str:
    who = f"as {login.username!r} " if login and login.username else ""
    return f"log in {who}with `docker login {host}`, or check that the name is right"


def _retry_after(response: httpx.Response, otherwise: float) -> float:
    """Seconds that a response asks to wait: a number, or a date."""
    value = response.headers.get("Retry-After", "")
    if value.isdigit():
        return float(value)
    date, now = (response.headers.get(name) for name in ("Retry-After", "Date"))
    if date and now:
        try:
            then = email.utils.parsedate_to_datetime(date)
            return max(0.0, (then - email.utils.parsedate_to_datetime(now)).total_seconds())
        except (ValueError, TypeError):
            return otherwise
    return otherwise


def _said(error: httpx.TransportError) -> str:
    return str(error) or type(error).__name__


def _trust() -> ssl.SSLContext:
    """This machine's CAs; where it has none, those that httpx brings."""
    paths = ssl.get_default_verify_paths()
    if paths.cafile or (paths.capath and any(Path(paths.capath).iterdir())):
        return ssl.create_default_context()
    return httpx.create_ssl_context()
