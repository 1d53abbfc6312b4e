"""Who may see the page: everybody on this machine, or whoever has the token; headers that hold browsers to it."""

import hashlib
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode

TOKEN = "EMBED_MONITOR_TOKEN"  # noqa: S105 - the variable's name
COOKIE = "embed_monitor"
MIN_CHARACTERS = 16
LOCAL_NAMES = {"127.0.0.1", "localhost", "[::1]"}
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_binding(host: str, token: str | None) -> None:
    """Raises ValueError where others could read the page without a token, or guess it."""
    if token is not None and len(token) < MIN_CHARACTERS:
        raise ValueError(
            f"{TOKEN} has {len(token)} characters; take at least {MIN_CHARACTERS} (`openssl rand -hex 16`)"
        )
    if token is None and not is_loopback(host):
        raise ValueError(
            f"--host {host} can be reached from other machines: set {TOKEN} (`openssl rand -hex 16`), or keep 127.0.0.1"
        )


class Guard:
    """Wraps the application. Only GET and HEAD pass."""

    def __init__(self, app: App, token: str | None) -> None:
        self._app, self._token = app, token
        # The cookie is not the token: whoever reads it from a browser's disk cannot use the API with it elsewhere.
        self._cookie = hmac.new(token.encode(), b"embed-assets monitor", hashlib.sha256).hexdigest() if token else ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in message.get("headers", [])}
                added = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in own]
                message["headers"] = [*message.get("headers", []), *added]
            await send(message)

        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if scope["method"] not in ("GET", "HEAD"):
            await _answer(with_headers, 405, "only GET: the page cannot change anything\n")
        elif self._token is None:
            # Without a token only names of this machine are served, so that no other site can point its name here.
            if headers.get("host", "").rsplit(":", 1)[0] in LOCAL_NAMES or headers.get("host") in LOCAL_NAMES:
                await self._app(scope, receive, with_headers)
            else:
                await _answer(with_headers, 421, "this page answers to 127.0.0.1 and localhost only\n")
        else:
            await self._guarded(scope, receive, with_headers, headers)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send, headers: dict[str, str]) -> None:
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for name, value in query if name == "token"]
        if given:
            if not self._is_token(given[0]):
                await _refuse(send)
                return
            # The token leaves the address bar, the history and every later request.
            rest = urlencode([(name, value) for name, value in query if name != "token"])
            where = "/" + scope["path"].lstrip("/\\") + (f"?{rest}" if rest else "")
            secure = "; Secure" if scope.get("scheme") == "https" else ""
            cookie = f"{COOKIE}={self._cookie}; HttpOnly; SameSite=Strict; Path=/{secure}"
            await _answer(send, 303, "", {"location": _ascii(where), "set-cookie": cookie})
            return
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        by_header = scheme.lower() == "bearer" and self._is_token(bearer.strip())
        if by_header or hmac.compare_digest(_cookie_of(headers).encode(), self._cookie.encode()):
            await self._app(scope, receive, send)
        else:
            await _refuse(send)

    def _is_token(self, value: str) -> bool:
        assert self._token is not None
        return hmac.compare_digest(value.encode(), self._token.encode())


def _cookie_of(headers: dict[str, str]) -> str:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel else ""


def _ascii(where: str) -> str:
    from urllib.parse import quote

    return quote(where, safe="/?&=%-._~")


async def _refuse(send: Send) -> None:
    text = f"a token is needed: open /?token=… once, or send `Authorization: Bearer …` ({TOKEN} of the server)\n"
    await _answer(send, 401, text, {"www-authenticate": "Bearer"})


async def _answer(send: Send, status: int, text: str, headers: dict[str, str] | None = None) -> None:
    body = text.encode()
    pairs = {"content-type": "text/plain; charset=utf-8", "content-length": str(len(body)), **(headers or {})}
    listed = [(name.encode(), value.encode("latin-1")) for name, value in pairs.items()]
    await send({"type": "http.response.start", "status": status, "headers": listed})
    await send({"type": "http.response.body", "body": body})
