"""HTTP to registries: redirects, retries, limits, and what could not be reached, remembered."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from ci.clock import Clock, SystemClock
from ci.engine.images.authorisation import Authorisations
from ci.engine.images.credentials import Credentials, Login
from ci.engine.images.documents import MAX_DOCUMENT
from ci.engine.images.endpoint import Endpoint, is_loopback
from ci.engine.images.failures import (
    AccessDenied,
    RegistryError,
    distrusted,
    login_hint,
    refused,
    retry_after,
    said,
    unreachable,
)
from ci.engine.images.trust import CERTIFICATES, own_certificates, trust

__all__ = ["LONGEST_DELAY", "Transport"]

_ATTEMPTS = 5
_FIRST_DELAY = 0.5
#: A registry that asks for more is not waited for. Seconds.
LONGEST_DELAY = 60.0
_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_CONNECT_SECONDS = 5.0
_READ_SECONDS = 60.0
_MOST_REDIRECTS = 10
#: Those after which the same request is sent again; after others only what merely reads.
_SAME_REQUEST = frozenset({307, 308})
_REDIRECTS = frozenset({301, 302, 303}) | _SAME_REQUEST
#: Nothing on the way may compress again what has a digest.
_HEADERS = {"User-Agent": "towpath", "Accept-Encoding": "identity"}

Body = Callable[[], AsyncIterator[bytes]]


class Transport:
    """Requests to registries. ``close`` it at the end.

    A host that could not be reached is not tried again: the error comes at once.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        connect_seconds: float = _CONNECT_SECONDS,
        read_seconds: float = _READ_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
        certificates: Sequence[Path] = CERTIFICATES,
    ) -> None:
        self._clock = clock or SystemClock()
        self._timeout = httpx.Timeout(read_seconds, connect=connect_seconds)
        self._transport = transport
        self._certificates = certificates
        #: By host; those that have no certificates of their own share one for each scheme.
        self._clients: dict[str, httpx.AsyncClient] = {}
        self._unreachable: dict[str, str] = {}
        self._answered: set[str] = set()
        self.authorisations = Authorisations(self._fetch)

    async def close(self) -> None:
        """Close all connections. It can be used again afterwards."""
        while self._clients:
            await self._clients.popitem()[1].aclose()

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
        body: Body | None = None,
        attempts: int = _ATTEMPTS,
    ) -> httpx.Response:
        """One request, repeated where that may help; the whole response.

        Args:
            endpoint: The registry.
            method: Of HTTP.
            url: Absolute.
            credentials: Logins to use where the registry asks for one.
            scope: What the request needs, as ``repository:NAME:pull``; several by spaces.
            ok: Status codes to return; others are errors.
            headers: Of the request.
            body: Gives the content anew for each attempt.
            attempts: How often to try where a failure may pass.

        Raises:
            UnreachableRegistry: there is no way to the host.
            AccessDenied: 401 or 403.
            NotInRegistry: 404.
            RegistryError: any other status, or more content than any document has.
        """
        call = _Call(self, endpoint, method, url, credentials, scope, dict(headers or {}), body)

        async def whole() -> httpx.Response:
            return await _read(await call.send(), f"registry {endpoint.host}")

        response = await self._patiently(whole, endpoint.host, attempts)
        if response.status_code not in ok:
            raise refused(endpoint, response, call.login)
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
    ) -> AsyncIterator[httpx.Response]:
        """As ``request``, with the response's content still to be read."""
        call = _Call(self, endpoint, method, url, credentials, scope, dict(headers or {}), None)
        response = await self._patiently(call.send, endpoint.host, _ATTEMPTS)
        try:
            if response.status_code not in ok:
                whole = await _read(response, f"registry {endpoint.host}")
                raise refused(endpoint, whole, call.login)
            yield response
        finally:
            await response.aclose()

    async def _fetch(self, request: httpx.Request) -> httpx.Response:
        """A request to a server that gives tokens."""
        host = request.url.netloc.decode()

        async def whole() -> httpx.Response:
            return await _read(await self.send(request), f"token server {host}")

        return await self._patiently(whole, host, _ATTEMPTS)

    async def _patiently(
        self, send: Callable[[], Awaitable[httpx.Response]], host: str, attempts: int
    ) -> httpx.Response:
        """Repeat what fails for a moment, as often and as late as is worth it."""
        if reason := self._unreachable.get(host):
            raise unreachable(host, reason)
        delay = _FIRST_DELAY
        for attempt in range(1, attempts + 1):
            last = attempt == attempts
            try:
                response = await send()
            except (httpx.RequestError, httpx.InvalidURL) as error:
                failure = self._failure(host, error)
                if last or not _may_pass(error, failure):
                    raise failure from error
            else:
                self._answered.add(host)
                wait = retry_after(response, delay)
                if response.status_code not in _TRANSIENT or last or wait > LONGEST_DELAY:
                    return response
                await response.aclose()
                delay = max(delay, wait)
            await self._clock.sleep(delay)
            delay *= 2
        raise AssertionError  # the last attempt returns or raises

    def _failure(self, host: str, error: httpx.RequestError | httpx.InvalidURL) -> RegistryError:
        """The error of a request without an answer. No way to the host at all is remembered."""
        at = _host_of(error) or host
        if at in {host.lower(), host.lower().removesuffix(":443").removesuffix(":80")}:
            at = host
        if tls := distrusted(at, error):
            return tls
        if at != host:
            return RegistryError(
                f"registry {host}", got=f"no answer from {at}, where it sent us ({said(error)})"
            )
        if _is_unconnected(error) and host not in self._answered:
            self._unreachable[host] = said(error)
            return unreachable(host, said(error))
        return RegistryError(f"registry {host}", got=said(error))

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send one request as it is; the response's content is still to be read."""
        client = self._client_for(request.url)
        request.extensions.setdefault("timeout", client.timeout.as_dict())
        request.headers.update(_HEADERS)
        return await client.send(request, stream=True)

    def _client_for(self, url: httpx.URL) -> httpx.AsyncClient:
        host = url.netloc.decode()
        files = own_certificates(host, self._certificates) if url.scheme == "https" else []
        key = host if files else url.scheme
        if key not in self._clients:
            self._clients[key] = httpx.AsyncClient(
                timeout=self._timeout,
                verify=trust(files) if url.scheme == "https" else False,
                transport=self._transport,
            )
        return self._clients[key]


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
    body: Body | None
    login: Login | None = None

    async def send(self) -> httpx.Response:
        """Send; where the registry asks for authorisation, get it and send again."""
        self.login = await self.credentials.login(self.endpoint.name or self.endpoint.host)
        authorisations = self.transport.authorisations
        known = authorisations.known(self.endpoint, self.scope, self.login)
        response = await self._follow(known)
        asked = response.status_code == httpx.codes.UNAUTHORIZED
        if not asked or not self.endpoint.serves(response.request.url):
            return response
        subject = f"registry {self.endpoint.host}"
        header = (await _read(response, subject)).headers.get("WWW-Authenticate", "")
        try:
            answer = await authorisations.answer(self.endpoint, header, self.login, self.scope)
        except RegistryError as error:
            # It did answer: that its tokens are not to be had must not look otherwise.
            if type(error) in {RegistryError, AccessDenied}:
                raise
            raise RegistryError(
                subject, got=f"no token: {error.subject}, {error.got}", hint=error.hint
            ) from error
        if answer is None or answer == known:
            raise AccessDenied(
                subject, got="401 Unauthorized", hint=login_hint(self.endpoint, self.login)
            )
        return await self._follow(answer)

    async def _follow(self, authorisation: str | None) -> httpx.Response:
        """Send, and again where we are sent to; only the registry itself sees who we are."""
        url = httpx.URL(self.url)
        for _ in range(_MOST_REDIRECTS):
            request = self._request(url, authorisation if self.endpoint.serves(url) else None)
            response = await self.transport.send(request)
            elsewhere = self._elsewhere(response)
            if elsewhere is None:
                return response
            await response.aclose()
            url = elsewhere
        raise RegistryError(
            f"registry {self.endpoint.host}", got=f"more than {_MOST_REDIRECTS} redirects"
        )

    def _request(self, url: httpx.URL, authorisation: str | None) -> httpx.Request:
        headers = {**self.headers, **({"Authorization": authorisation} if authorisation else {})}
        content: Any = self.body() if self.body else None
        return httpx.Request(self.method, url, headers=headers, content=content)

    def _elsewhere(self, response: httpx.Response) -> httpx.URL | None:
        """Where a response sends us; None where it is an answer."""
        followed = _REDIRECTS if self.method in {"GET", "HEAD"} else _SAME_REQUEST
        location = response.headers.get("Location")
        if response.status_code not in followed or not location:
            return None
        try:
            target = response.request.url.join(location)
        except httpx.InvalidURL:
            target = httpx.URL("")
        secure = target.scheme == "https" or (
            target.scheme == "http" and (is_loopback(target.host) or self.endpoint.scheme == "http")
        )
        if not secure or not target.host:
            raise RegistryError(
                f"registry {self.endpoint.host}",
                got=f"a redirect to {location[:200]!r}",
                expected="one to an https URL",
            )
        return target


async def _read(response: httpx.Response, subject: str) -> httpx.Response:
    """The response with its content in memory, decoded.

    Raises:
        RegistryError: there is more of it than any document has.
    """
    content = bytearray()
    try:
        async for chunk in response.aiter_bytes():
            content += chunk
            if len(content) > MAX_DOCUMENT:
                raise RegistryError(
                    subject,
                    got=f"more than {MAX_DOCUMENT} bytes to {response.request.method} "
                    f"{response.request.url.path}",
                    expected="a document of at most that size",
                )
    finally:
        await response.aclose()
    headers = [pair for pair in response.headers.items() if pair[0] != "content-encoding"]
    return httpx.Response(
        response.status_code, headers=headers, content=bytes(content), request=response.request
    )


def _is_unconnected(error: Exception) -> bool:
    return isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError)


def _may_pass(error: Exception, failure: RegistryError) -> bool:
    """Whether to try again: a connection broke, or there was none to a host that has answered."""
    if type(failure) is not RegistryError or distrusted("", error):
        return False
    return isinstance(error, httpx.TransportError) and not isinstance(
        error, httpx.UnsupportedProtocol
    )


def _host_of(error: httpx.RequestError | httpx.InvalidURL) -> str:
    """Whom the failed request went to."""
    try:
        return error.request.url.netloc.decode() if isinstance(error, httpx.RequestError) else ""
    except RuntimeError:  # it carries no request
        return ""
