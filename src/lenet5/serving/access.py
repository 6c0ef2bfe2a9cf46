"""What every request must pass before it is read: address, key, size, load and rate.

The service listens on the loopback interface by default. A browser on the same machine could be made to send
requests to it by any web page, so a foreign ``Host`` (DNS rebinding) and a foreign ``Origin`` are refused.
"""

import asyncio
import hmac
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lenet5.serving.errors import RequestError

Respond = Callable[[RequestError, str], ASGIApp]

BODY_IS_COMPLETE = "lenet5.body_is_complete"
"""Key that the server adds to the ASGI scope of a request when it has received the whole body."""
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_MAX_CLIENTS = 10_000
"""Addresses whose rate is remembered."""


@dataclass(frozen=True)
class Limits:
    """What the service accepts."""

    hosts: frozenset[str]
    """Names without port by which the service may be asked; empty: every one."""
    key: bytes | None = None
    """The API key; None: everybody who reaches the service may ask it."""
    max_bytes: int = 32_000_000
    """Of one body."""
    max_total_bytes: int = 128_000_000
    """Of all bodies that are read or scored at the same time."""
    max_requests: int = 256
    """At the same time."""
    body_seconds: float = 30.0
    """From the headers to the end of the body."""
    rate: float | None = None
    """Requests per second of one client, on average over ten seconds; None: no limit."""


def host_names(host: str, more: tuple[str, ...]) -> frozenset[str]:
    """Return the names by which a service that listens on ``host`` may be asked."""
    if _is_every_address(host) and not more:
        return frozenset()
    return frozenset({*_LOOPBACK, f"[{host}]" if ":" in host else host, *(name.lower() for name in more)})


class AccessControl:
    """ASGI middleware: refuses a request, or passes it on with a body of bounded size."""

    def __init__(
        self, app: ASGIApp, limits: Limits, respond: Respond, is_public: Callable[[str], bool]
    ) -> None:
        """Wrap an application.

        Args:
            app: the application.
            limits: what it accepts.
            respond: returns the answer for a refusal; its second argument is the path of the request.
            is_public: whether a path needs no key and has no rate: probes.
        """
        self._app = app
        self._limits = limits
        self._respond = respond
        self._is_public = is_public
        self._requests = 0
        self._bytes = 0
        self._tokens: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        announced = 0
        admitted = False
        try:
            self._check_origin(headers)
            _check_encoding(headers)
            if not self._is_public(scope["path"]):
                self._check_key(headers)
                self._check_rate(scope)
                announced = self._announced_bytes(headers)
                self._check_load(announced)
                admitted = True
                self._requests += 1
                self._bytes += announced
            receive = self._limited(scope, receive)
            await self._app(scope, receive, send)
        except RequestError as error:
            await self._respond(error, scope["path"])(scope, receive, send)
        finally:
            if admitted:
                self._requests -= 1
                self._bytes -= announced

    def _check_origin(self, headers: dict[bytes, bytes]) -> None:
        hosts = self._limits.hosts
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if hosts and _without_port(host) not in hosts:
            raise RequestError(
                421,
                "foreign_host",
                "The service is not asked by this name.",
                expected=", ".join(sorted(hosts)),
                found=host or "no Host header",
                fix="lenet5 serve --allow-host NAME",
            )
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        if origin and origin.partition("://")[2] != host:
            raise RequestError(
                403, "foreign_origin", "Web pages of other origins may not use the service.", found=origin
            )

    def _check_key(self, headers: dict[bytes, bytes]) -> None:
        if self._limits.key is None:
            return
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        given = headers.get(b"x-api-key") or (token.strip() if scheme.lower() == b"bearer" else b"")
        if not hmac.compare_digest(given, self._limits.key):
            raise RequestError(
                401,
                "no_key",
                "The service needs its API key.",
                expected="the header X-API-Key, or Authorization: Bearer",
                found="none, or another key",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def _check_rate(self, scope: Scope) -> None:
        """Take one token from the bucket of a client, which holds those of ten seconds."""
        rate = self._limits.rate
        if rate is None:
            return
        client, now = (scope.get("client") or ("?",))[0], time.monotonic()
        tokens, since = self._tokens.pop(client, (rate * 10, now))
        tokens = min(rate * 10, tokens + (now - since) * rate)
        self._tokens[client] = (max(0.0, tokens - 1), now)
        if len(self._tokens) > _MAX_CLIENTS:
            self._tokens.popitem(last=False)
        if tokens < 1:
            raise RequestError(
                429,
                "too_many_requests",
                "This client asks too often.",
                expected=f"{rate:g} requests a second",
                headers={"Retry-After": str(max(1, round((1 - tokens) / rate)))},
            )

    def _announced_bytes(self, headers: dict[bytes, bytes]) -> int:
        """Return the size of the body; without a size, the largest one that is accepted."""
        length = headers.get(b"content-length")
        if length is None:
            return self._limits.max_bytes if b"transfer-encoding" in headers else 0
        if int(length) > self._limits.max_bytes:
            raise _too_large(self._limits.max_bytes, f"{int(length):,} bytes")
        return int(length)

    def _check_load(self, announced: int) -> None:
        limits = self._limits
        if self._requests >= limits.max_requests or (
            self._requests and self._bytes + announced > limits.max_total_bytes
        ):
            raise RequestError(
                503,
                "busy",
                "The service has as many requests as it can hold.",
                found=f"{self._requests} requests with {self._bytes:,} bytes",
                headers={"Retry-After": "1"},
            )

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        """Return a ``receive`` that ends with an error after too many bytes, or too much time."""
        max_bytes = self._limits.max_bytes
        total, deadline = 0, time.monotonic() + self._limits.body_seconds
        complete = False

        async def limited() -> Message:
            nonlocal total, complete
            if complete:  # the application waits for the end of the connection
                return await receive()
            if BODY_IS_COMPLETE in scope:  # a timer would take as long as the network needs
                message = await receive()
            else:
                try:
                    async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                        message = await receive()
                except TimeoutError:
                    raise RequestError(
                        408,
                        "slow_body",
                        "The body did not arrive in time.",
                        expected=f"all of it within {self._limits.body_seconds:g} seconds",
                        found=f"{total:,} bytes",
                        headers={"Connection": "close"},
                    ) from None
            if message["type"] == "http.request":
                total += len(message.get("body", b""))
                if total > max_bytes:
                    raise _too_large(max_bytes, f"more than {max_bytes:,} bytes")
                complete = not message.get("more_body", False)
            return message

        return limited


def _check_encoding(headers: dict[bytes, bytes]) -> None:
    """Refuse a compressed body, whose size is known only after it is unpacked."""
    encoding = headers.get(b"content-encoding", b"identity").decode("latin-1").strip().lower()
    if encoding not in ("", "identity"):
        raise RequestError(
            415,
            "encoded_body",
            "The body is compressed.",
            expected="a body without Content-Encoding",
            found=encoding,
            fix="send it as it is; PNG and JPEG pictures are compressed",
        )


def _is_every_address(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:  # a name
        return False


def _too_large(max_bytes: int, found: Any) -> RequestError:
    return RequestError(
        413,
        "too_large",
        "The body is too large.",
        expected=f"at most {max_bytes:,} bytes",
        found=found,
        fix="send fewer images in a request, or raise --max-megabytes",
        headers={"Connection": "close"},
    )


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
