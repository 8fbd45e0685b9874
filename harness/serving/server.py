"""The local page: one process that answers over HTTP, with the standard library alone.

``GET /`` is the page, ``GET /api/items?q=`` searches titles, ``POST /api/recommend`` takes
``{"history": [ids], "k": 10, "seen": "keep"}``. Nothing that a client sends is run, stored, or made markup.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from time import monotonic
from typing import Any
from urllib.parse import parse_qs, urlsplit

from harness.errors import BenchError, shown
from harness.text.parsing import decode, parse_json

from .catalogue import UnknownItem, names_of
from .recommender import MOST_K, Recommender, as_json

MOST_BODY = 64 * 2**10
"""Bytes of a request's body."""
MOST_SHOWN = 5
"""Items of a beam that are told."""
MOST_SEARCHED = 20
"""Items of a history that are searched for by the words of their titles."""
MOST_DRAINED = 32 * 2**20
"""Bytes of a body that is too large which are still read, so that its sender hears why it was refused."""
PATIENCE = 20.0
"""Seconds that a client may take to send a request, and to take its answer in."""
MOST_CLIENTS = 64
"""Connections that are open at once."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
POLICY = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
PAGES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}


class Refused(Exception):
    """A request that is not answered, with its status and one line."""

    def __init__(self, status: int, line: str):
        super().__init__(line)
        self.status = status


class Server(ThreadingHTTPServer):
    """Answers for one trained model.

    Attributes:
        hosts: names that a request may ask for (its ``Host``); empty: any. A page of another site that resolves its own
            name to this machine is refused by it.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, recommender: Recommender, host: str, port: int):
        if not host.strip():
            raise BenchError("--host is empty; name an address of this machine, such as 127.0.0.1")
        self.recommender, self.asking = recommender, threading.Lock()
        self.clients: dict[socket.socket, float | None] = {}  # since when its request is awaited; None: it is answered
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), Handler)
        except socket.gaierror:
            raise BenchError(f"--host {host} is no address of this machine; name one, such as 127.0.0.1") from None
        except OSError as error:
            raise BenchError(
                f"--host {host} --port {port} cannot be listened on ({error.strerror or error}); name another port, or "
                "--port 0 for any that is free"
            ) from None
        except OverflowError:
            raise BenchError(f"--port {port} is no port; give 0 to 65535") from None
        self.local = ipaddress.ip_address(str(self.server_address[0])).is_loopback
        self.hosts: tuple[str, ...] = (*LOOPBACK, str(self.server_address[0]), host.lower()) if self.local else ()

    @property
    def address(self) -> str:
        """Where the page is."""
        host, port = self.server_address[:2]
        name = str(host)
        return f"http://{f'[{name}]' if ':' in name else name}:{port}/"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give a connection its thread; where there are too many, whoever has kept us waiting longest goes."""
        if len(self.clients) >= MOST_CLIENTS:
            awaited = {client: since for client, since in list(self.clients.items()) if since is not None}
            if not awaited:
                self.shutdown_request(request)
                return
            self._hang_up(min(awaited, key=lambda client: awaited[client]))
        self.clients[request] = monotonic()
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Hang up on clients whose request does not come to its end: a byte now and then is not silence."""
        late = monotonic() - PATIENCE
        for client, since in list(self.clients.items()):
            if since is not None and since < late:
                self._hang_up(client)

    def _hang_up(self, client: socket.socket) -> None:
        self.clients.pop(client, None)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)  # its thread reads the end of the stream, and closes it

    def shutdown_request(self, request: Any) -> None:
        """A connection has ended."""
        self.clients.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server
    timeout = PATIENCE
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "bench", ""

    def handle_one_request(self) -> None:
        """A request, which has its own time to come."""
        self.server.clients[self.connection] = monotonic()
        super().handle_one_request()

    def do_GET(self) -> None:
        """The page, what answers, and items by title."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Recommendations."""
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged: histories are private."""

    def _answer(self, work: Any) -> None:
        try:
            self._check_host()
            kind, content = work()
            self._send(200, kind, content)
        except Refused as refused:
            self._fail(refused.status, str(refused))
        except UnknownItem as error:
            self._fail(422, error.format_message())
        except BenchError as error:
            self._fail(400, error.format_message())
        except (TimeoutError, ConnectionError):
            self.close_connection = True
        except Exception as error:
            self._fail(500, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")

    def _check_host(self) -> None:
        name = self.headers.get("Host", "")
        host = urlsplit(f"//{name}").hostname or ""
        if self.server.hosts and host not in self.server.hosts:
            self.close_connection = True  # a body that follows is not read as a request
            raise Refused(403, "this page is for this machine alone; ask for it by 127.0.0.1 or localhost")

    def _get(self) -> tuple[str, bytes]:
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            self.close_connection = True
        self._has_come()
        url = urlsplit(self.path)
        if url.path in PAGES:
            name, kind = PAGES[url.path]
            return kind, (files("harness.serving") / "page" / name).read_bytes()
        made = self.server.recommender
        if url.path == "/api/model":
            facts = {"model": made.told(), "items": len(made.catalogue), "seen": made.seen, "most": MOST_K}
            return _json(facts)
        if url.path == "/api/items":
            found = made.catalogue.search(parse_qs(url.query).get("q", [""])[0])
            return _json({"items": [self._item(item) for item in found]})
        raise Refused(405 if url.path == "/api/recommend" else 404, "there is GET /, /api/model and /api/items?q=")

    def _post(self) -> tuple[str, bytes]:
        body = self._body()
        if urlsplit(self.path).path != "/api/recommend":
            raise Refused(404, "POST goes to /api/recommend")
        if self.headers.get_content_type() != "application/json":
            raise Refused(415, "send JSON (Content-Type: application/json)")
        try:
            asked = parse_json(decode(body))
        except ValueError as error:
            raise Refused(400, f"the body is no JSON: {error}") from None
        if not isinstance(asked, dict) or "history" not in asked:
            raise Refused(400, 'send {"history": [ids, oldest first], "k": 10}')
        k, seen, made = asked.get("k", 10), asked.get("seen") or "", self.server.recommender
        if isinstance(k, bool) or not isinstance(k, int) or not isinstance(seen, str):
            raise Refused(400, "k is a whole number, and seen is keep or drop")
        items, searched = [], 0
        for name in names_of(asked["history"]):
            item = made.catalogue.named(name)
            searched += item is None
            if searched > MOST_SEARCHED:
                raise Refused(400, f"more than {MOST_SEARCHED} items are named by words; give their ids")
            items.append(made.catalogue.item_of(name)[0] if item is None else item)
        with self.server.asking:  # one model, one question at a time
            answer = made.answer(items, k, seen)
        beams = [
            {"sid": beam.sid, "score": beam.score, "items": [self._item(item) for item in beam.items[:MOST_SHOWN]]}
            for beam in answer.beams
        ]
        history = [self._item(item) for item in items]
        return _json({"model": made.told(), "history": history, **made.plain(answer), "beams": beams})

    def _body(self) -> bytes:
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            self.close_connection = True
            raise Refused(411, "say the length of the body (Content-Length)") from None
        if length > MOST_BODY or length < 0:
            self.close_connection = True
            left = min(max(length, 0), MOST_DRAINED)
            while left > 0 and (got := len(self.rfile.read(min(left, 2**16)))):
                left -= got
            raise Refused(
                413, f"the body is larger than {MOST_BODY // 1024} KiB; a file goes to bench recommend --input"
            )
        body = self.rfile.read(length)
        self._has_come()
        return body

    def _has_come(self) -> None:
        self.server.clients[self.connection] = None

    def _item(self, item: int) -> dict[str, Any]:
        known = self.server.recommender.catalogue
        return {"id": known.id(item), "number": item, "title": known.items.titles[item], "sid": known.sid(item)}

    def _fail(self, status: int, line: str) -> None:
        kind, content = _json({"error": shown(line)[:2000]})
        self._send(status, kind, content)

    def _send(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", POLICY + "form-action 'none'; frame-ancestors 'none'")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close" if self.close_connection else "keep-alive")
        self.end_headers()
        self.wfile.write(content)


def _json(content: dict[str, Any]) -> tuple[str, bytes]:
    return "application/json; charset=utf-8", as_json(content).encode()
