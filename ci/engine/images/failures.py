"""What can go wrong with a registry, each kind an error of its own."""

from __future__ import annotations

import email.utils
import json
import ssl

import httpx

from ci.engine.images.credentials import Login
from ci.engine.images.endpoint import Endpoint
from ci.errors import CiError

__all__ = [
    "AccessDenied",
    "NotInRegistry",
    "RegistryError",
    "UnreachableRegistry",
    "distrusted",
    "login_hint",
    "refused",
    "retry_after",
    "said",
    "unreachable",
]

_LONGEST = 500


class RegistryError(CiError):
    """A registry answered, but not as it should."""

    #: Seconds that it asks to wait before the next request; 0 where it does not.
    retry_after = 0.0


class UnreachableRegistry(RegistryError):
    """A registry's host cannot be reached from here: there was no answer at all."""


class NotInRegistry(RegistryError):
    """The registry knows no such image or blob."""


class AccessDenied(RegistryError):
    """The registry refuses, with or without a login."""


def unreachable(host: str, reason: str) -> UnreachableRegistry:
    """The error of a host to which there is no way."""
    return UnreachableRegistry(
        f"registry {host}", got=f"no connection ({reason})", expected="an answer"
    )


def distrusted(host: str, error: BaseException) -> RegistryError | None:
    """The error of a connection that failed because of TLS; None where it failed otherwise."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return RegistryError(
                f"registry {host}",
                got=f"a certificate that is not trusted ({cause.verify_message})",
                hint="add its CA to this machine's, name a bundle in SSL_CERT_FILE, or put it in "
                f"/etc/docker/certs.d/{host}/ca.crt",
            )
        if isinstance(cause, ssl.SSLError):
            return RegistryError(
                f"registry {host}", got=f"no TLS ({cause.reason or cause})", expected="https"
            )
        cause = cause.__cause__ or cause.__context__
    return None


def refused(endpoint: Endpoint, response: httpx.Response, login: Login | None) -> RegistryError:
    """The error that a status means."""
    request = response.request
    status = f"{response.status_code} {response.reason_phrase}".strip()
    got = f"{status} to {request.method} {request.url.path}{_details(response)}"
    if request.url.netloc.decode() != endpoint.host:
        got += f" at {request.url.netloc.decode()}, where it sent us"
    subject = f"registry {endpoint.host}"
    if response.status_code in {401, 403}:
        return AccessDenied(subject, got=got, hint=login_hint(endpoint, login))
    if response.status_code == httpx.codes.NOT_FOUND:
        return NotInRegistry(subject, got=got)
    hint = ""
    if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
        hint = "log in for a higher limit, or name a mirror in TOWPATH_REGISTRY_MIRRORS"
    error = RegistryError(subject, got=got, hint=hint)
    error.retry_after = retry_after(response, 0.0)
    return error


def retry_after(response: httpx.Response, otherwise: float) -> float:
    """Seconds that a response asks to wait: a number, or a date."""
    value = response.headers.get("Retry-After", "")
    if value.isascii() and value.isdigit():
        return float(value)
    date, now = (response.headers.get(name) for name in ("Retry-After", "Date"))
    if date and now:
        try:
            then = email.utils.parsedate_to_datetime(date)
            return max(0.0, (then - email.utils.parsedate_to_datetime(now)).total_seconds())
        except (ValueError, TypeError):
            return otherwise
    return otherwise


def _details(response: httpx.Response) -> str:
    """What the registry says about it, in the form of the distribution specification."""
    try:
        errors = json.loads(response.content)["errors"]
        said = "; ".join(f"{error['code']}: {error.get('message', '')}" for error in errors)
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return ""
    printable = "".join(char if char.isprintable() else " " for char in said)
    return f" ({printable[:_LONGEST]})"


def login_hint(endpoint: Endpoint, login: Login | None) -> str:
    """What may help who is refused."""
    who = f"as {login.username!r} " if login and login.username else ""
    return f"log in {who}with `docker login {endpoint.host}`, or check that the name is right"


def said(error: Exception) -> str:
    """What an exception of the HTTP client says; many say nothing."""
    if str(error):
        return str(error)
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    return f"a connection that broke ({type(error).__name__})"
