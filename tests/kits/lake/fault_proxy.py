"""An HTTP proxy before an S3 server that does to clients, by a seeded schedule, what real S3 does on bad days."""

import http.client
import random
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

ERRORS = {"InternalError": 500, "ServiceUnavailable": 503, "SlowDown": 503}
REFUSALS = {"AccessDenied": 403, "InvalidAccessKeyId": 403, "SignatureDoesNotMatch": 403, "ExpiredToken": 400}
"""Not of the schedule: another try does not help."""
STORM: Mapping[str, float] = {
    **{"error": 0.05, "answer dropped": 0.03, "answer timed out": 0.003, "reset in request": 0.02},
    **{"reset in answer": 0.02, "slow answer": 0.02, "delete refused": 0.2},
}
"""Share of requests that meet each fault. Those that cannot meet it (a reset in a PUT's empty answer) pass."""
HOP = {"connection", "transfer-encoding", "expect", "keep-alive", "te", "upgrade"}


class FaultProxy:
    """Counts each fault in `faults`. `next_faults` go before the schedule: (part of "METHOD path", fault)."""

    hold = 1.5
    """Seconds that a client waits in vain: longer than its time-out."""

    def __init__(self, upstream: str, seed: int = 0, rates: Mapping[str, float] = {}, lag: float = 0.0) -> None:
        self.upstream, self.rates, self.lag = urlsplit(upstream).netloc, rates, lag
        self.expired_keys: set[str] = set()
        self.faults: Counter[str] = Counter()
        self.requests = 0
        self.next_faults: list[tuple[str, str]] = []
        self._random = random.Random(seed)
        self._over = threading.Event()
        self.written: dict[str, float] = {}
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator["FaultProxy"]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            self._server.shutdown()
            thread.join()
            self._server.server_close()

    def draw(self, request: str) -> str:
        """The fault that this request meets, or ""."""
        with self._lock:
            self.requests += 1
            for part, fault in self.next_faults:
                if part in request:
                    self.next_faults.remove((part, fault))
                    return fault
            at = self._random.random()
            for fault, rate in self.rates.items():
                if fault == "delete refused":
                    if "?delete" in request and self._random.random() < rate:
                        return fault
                elif (at := at - rate) < 0:
                    return fault if fault != "error" else f"error {self._random.choice(list(ERRORS))}"
            return ""

    def count(self, fault: str) -> None:
        with self._lock:
            self.faults[fault] += 1

    def hide(self, listing: bytes) -> bytes:
        """A listing without the keys of the last `lag` seconds."""
        recent = {key for key, at in list(self.written.items()) if time.monotonic() - at < self.lag}

        def keep(found: re.Match[bytes]) -> bytes:
            key = re.search(rb"<Key>(.*?)</Key>", found[0])
            if key is None or unquote(key[1].decode()) not in recent:
                return found[0]
            self.count("listing lag")
            return b""

        return re.sub(rb"<Contents>.*?</Contents>", keep, listing, flags=re.DOTALL)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            fault: str | None = None

            def log_message(self, *_: Any) -> None:
                pass

            def handle_expect_100(self) -> bool:
                self.fault = proxy.draw(f"{self.command} {self.path}")
                if self.fault == "no leave to send":
                    proxy.count(self.fault)
                    proxy._over.wait(60)
                    return False
                return super().handle_expect_100()

            def do_any(self) -> None:
                fault, self.fault = self.fault, None
                try:
                    self.serve(proxy.draw(f"{self.command} {self.path}") if fault is None else fault)
                except ConnectionError:
                    self.close_connection = True

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_any

            def serve(self, fault: str) -> None:
                if any(f"Credential={key}/" in self.headers.get("Authorization", "") for key in proxy.expired_keys):
                    self.body()
                    proxy.count("expired credentials")
                    return self.error(400, "ExpiredToken")
                if fault == "reset in request" and self.command in ("PUT", "POST"):
                    self.rfile.read(int(self.headers.get("Content-Length", 0)) // 2)
                    return self.reset(fault)
                body = self.body()
                if fault.startswith("error"):
                    proxy.count(fault)
                    code = fault.removeprefix("error ")
                    return self.error((ERRORS | REFUSALS)[code], code)
                if fault == "delete refused":
                    proxy.count(fault)
                    errors = re.sub(rb".*?(<Key>.*?</Key>)", rb"<Error>\1<Code>InternalError</Code></Error>", body)
                    return self.answer(200, {}, b"<DeleteResult>%s</DeleteResult>" % errors.partition(b"</Object>")[0])
                status, headers, answer = self.forward(body)
                if self.command in ("PUT", "POST") and status < 300:
                    key = unquote(urlsplit(self.path).path).partition("/")[2].partition("/")[2]
                    proxy.written[key] = time.monotonic()
                if self.command == "GET" and "list-type" in parse_qs(urlsplit(self.path).query):
                    answer = proxy.hide(answer)
                if fault in ("answer dropped", "answer timed out"):
                    time.sleep(proxy.hold if fault == "answer timed out" else 0)
                    return self.reset(fault)
                if fault == "reset in answer" and len(answer) > 1:
                    self.answer(status, headers, answer, send=len(answer) // 2)
                    return self.reset(fault)
                if fault == "slow answer" and answer:
                    proxy.count(fault)
                    return self.answer(status, headers, answer, pause=0.02)
                return self.answer(status, headers, answer)

            def body(self) -> bytes:
                if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                    return self.rfile.read(int(self.headers.get("Content-Length", 0)))
                blocks = []
                while size := int(self.rfile.readline(), 16):
                    blocks.append(self.rfile.read(size))
                    self.rfile.readline()
                while self.rfile.readline().strip():
                    pass
                return b"".join(blocks)

            def forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
                connection = http.client.HTTPConnection(proxy.upstream, timeout=60)
                try:
                    headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP}
                    connection.request(self.command, self.path, body, headers | {"Content-Length": str(len(body))})
                    found = connection.getresponse()
                    return found.status, {k: v for k, v in found.getheaders() if k.lower() not in HOP}, found.read()
                finally:
                    connection.close()

            def error(self, status: int, code: str) -> None:
                text = f"<Error><Code>{code}</Code><Message>as a bad day has it</Message></Error>"
                self.answer(status, {}, b"" if self.command == "HEAD" else text.encode())

            def answer(
                self, status: int, headers: dict[str, str], body: bytes, send: int | None = None, pause: float = 0.0
            ) -> None:
                length = next((v for k, v in headers.items() if k.lower() == "content-length"), "0")
                self.send_response_only(status)
                for name, value in headers.items():
                    if name.lower() != "content-length":
                        self.send_header(name, value)
                self.send_header("Content-Length", length if self.command == "HEAD" else str(len(body)))
                self.end_headers()
                step = max(1, len(body) // 10) if pause else max(1, len(body))
                for start in range(0, len(body[:send]), step):
                    self.wfile.write(body[:send][start : start + step])
                    time.sleep(pause)

            def reset(self, fault: str) -> None:
                """Ends the connection as a machine does that loses power: RST, no goodbye."""
                proxy.count(fault)
                self.close_connection = True
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()

        return Handler
