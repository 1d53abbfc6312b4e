"""Who may see the page: everybody on this machine, or whoever has the token; headers that hold browsers to it."""

import hashlib
import hmac
import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlencode

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN = "EMBED_MONITOR_TOKEN"  # noqa: S105 - the variable's name
COOKIE = "embed_monitor"
MIN_CHARACTERS = 16
LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")
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

    def __init__(self, app: "ASGIApp", token: str | None) -> None:
        from starlette.middleware.trustedhost import TrustedHostMiddleware

        self._token = token
        # The cookie is not the token: whoever reads it from a browser's disk cannot use the API with it elsewhere.
        self._cookie = hmac.new(token.encode(), b"embed-assets monitor", hashlib.sha256).hexdigest() if token else ""
        # Without a token only names of this machine are served, so that no other site can point its name here.
        self._app = app if token else TrustedHostMiddleware(app, LOCAL_NAMES, www_redirect=False)

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        from starlette.datastructures import MutableHeaders
        from starlette.requests import Request

        async def with_headers(message: "Message") -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if scope["type"] == "http":
            answer = self._answer(Request(scope))
            await (answer or self._app)(scope, receive, with_headers)
        elif scope["type"] == "lifespan":
            await self._app(scope, receive, send)

    def _answer(self, request: "Request") -> "Response | None":
        """None where the application may answer."""
        from starlette.responses import PlainTextResponse

        if request.method not in ("GET", "HEAD"):
            return PlainTextResponse("only GET: the page cannot change anything\n", 405)
        if self._token is None:
            return None
        if "token" in request.query_params:
            if _same(request.query_params["token"], self._token):
                return self._welcome(request)
        else:
            scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
            by_header = scheme.lower() == "bearer" and _same(bearer.strip(), self._token)
            if by_header or _same(request.cookies.get(COOKIE, ""), self._cookie):
                return None
        text = f"a token is needed: open /?token=… once, or send `Authorization: Bearer …` ({TOKEN} of the server)\n"
        return PlainTextResponse(text, 401, {"www-authenticate": "Bearer"})

    def _welcome(self, request: "Request") -> "Response":
        """The token leaves the address bar, the history and every later request."""
        from starlette.responses import RedirectResponse

        rest = urlencode([(name, value) for name, value in request.query_params.multi_items() if name != "token"])
        where = "/" + request.scope["path"].lstrip("/\\") + (f"?{rest}" if rest else "")
        answer = RedirectResponse(where, 303)
        secure = request.scope.get("scheme") == "https"
        answer.set_cookie(COOKIE, self._cookie, httponly=True, samesite="strict", secure=secure)
        return answer


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
