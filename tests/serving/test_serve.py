"""The local page, over real HTTP and in a real browser."""

import contextlib
import http.client
import json
import socket
import threading
import time

import pytest

from harness.errors import BenchError
from harness.serving.server import MOST_BODY, Server
from tests.browser import CHROMIUM, FLAGS, SCREENSHOTS

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def server(writing):
    with Server(writing, "127.0.0.1", 0) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield made
        made.shutdown()


def ask(server, method, path, body=None, headers=()):
    """``(status, headers, body)``."""
    client = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=30)
    client.request(method, path, body, dict(headers))
    answer = client.getresponse()
    found = answer.status, answer.headers, answer.read()
    client.close()
    return found


def recommend(server, content, **headers):
    body = content if isinstance(content, (bytes, str)) else json.dumps(content)
    status, _, answer = ask(server, "POST", "/api/recommend", body, JSON | headers)
    return status, json.loads(answer)


def test_it_answers_as_the_model_does(server, writing):
    status, answer = recommend(server, {"history": ["S00003", "S00004"], "k": 4})
    assert status == 200
    made = writing.answer([3, 4], 4)
    assert [one["number"] for one in answer["items"]] == [one.item for one in made.items]
    assert [beam["sid"] for beam in answer["beams"]] == [beam.sid for beam in made.beams]
    assert answer["beams"][0]["items"][0]["title"] == writing.catalogue.items.titles[made.items[0].item]
    assert [one["id"] for one in answer["history"]] == ["S00003", "S00004"]


def test_it_finds_items_by_title_and_says_what_it_is(server, writing):
    found = json.loads(ask(server, "GET", "/api/items?q=drill")[2])["items"]
    assert found
    assert all("drill" in one["title"].lower() for one in found)
    facts = json.loads(ask(server, "GET", "/api/model")[2])
    assert facts["model"] == writing.told()
    assert facts["items"] == 80


@pytest.mark.parametrize(
    ("content", "status", "line"),
    [
        ("{", 400, "the body is no JSON"),
        ("[]", 400, 'send {"history"'),
        ({"history": "S00003"}, 400, "a history is a list"),
        ({"history": ["<script>alert(1)</script>"]}, 422, "'<script>alert(1)</script>' is no item"),
        ({"history": ["S00003"], "k": 0}, 400, "ask for 1 to 1000"),
        ({"history": ["S00003"], "k": "3"}, 400, "k is a whole number"),
        ({"history": ["S00003"], "seen": "x"}, 400, "unknown value of seen"),
        ({"history": ["S00003"] * 10_001}, 413, "larger than 64 KiB"),
        (b"\xff\xfe", 400, "the body is no JSON"),
        ("[" * 5000, 400, "the body is no JSON"),
        (b" " * 10_000_000, 413, f"larger than {MOST_BODY // 1024} KiB"),
    ],
)
def test_bad_requests_are_refused_in_one_line(server, content, status, line):
    got, answer = recommend(server, content)
    assert got == status
    assert line in answer["error"]
    assert "\n" not in answer["error"]
    assert recommend(server, {"history": []})[0] == 200  # and it goes on


def test_other_paths_methods_kinds_and_hosts_are_refused(server):
    assert ask(server, "GET", "/../../etc/passwd")[0] == 404
    assert ask(server, "GET", "/api/recommend")[0] == 405
    assert ask(server, "POST", "/", "{}", JSON)[0] == 404
    assert ask(server, "PUT", "/")[0] == 501
    status, _, answer = ask(server, "POST", "/api/recommend", '{"history": []}', {"Content-Type": "text/plain"})
    assert (status, "send JSON" in answer.decode()) == (415, True)  # what a form of another site can send
    status, _, answer = ask(server, "GET", "/", headers={"Host": "evil.example:80"})
    assert (status, "for this machine alone" in answer.decode()) == (403, True)


def test_a_request_without_its_length_is_refused(server):
    with socket.create_connection(server.server_address[:2], 10) as client:
        client.sendall(b"POST /api/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\r\n")
        assert b" 411 " in client.recv(200)


def test_pages_carry_a_policy_that_runs_nothing_else(server):
    _, headers, _ = ask(server, "GET", "/")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"


def slow(server, sent):
    """A connection that has sent a part of a request."""
    client = socket.create_connection(server.server_address[:2], timeout=10)
    client.sendall(sent)
    return client


def is_closed(client):
    with contextlib.suppress(ConnectionError):
        return client.recv(1) == b""
    return True


@pytest.mark.parametrize(
    "sent", [b"GET / HT", b"POST /api/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"]
)
def test_a_client_that_sends_a_byte_now_and_then_is_cut_off(server, monkeypatch, sent):
    monkeypatch.setattr("harness.serving.server.PATIENCE", 0.6)
    client = slow(server, sent)
    client.settimeout(0.1)
    started = time.monotonic()
    while time.monotonic() - started < 8:
        try:
            client.sendall(b" ")
            if client.recv(1) == b"":
                break
        except TimeoutError:
            continue
        except ConnectionError:
            break
    assert 0.4 < time.monotonic() - started < 7


def test_many_that_wait_do_not_keep_others_out(server, monkeypatch):
    monkeypatch.setattr("harness.serving.server.MOST_CLIENTS", 4)
    clients = [slow(server, b"GET / HT") for _ in range(9)]
    assert recommend(server, {"history": ["S00003"]})[0] == 200
    assert is_closed(clients[0])
    assert len(server.clients) <= 4
    for client in clients:
        client.close()


def test_a_port_in_use_is_one_line(server, writing):
    with pytest.raises(BenchError, match=r"cannot be listened on .* name another port"):
        Server(writing, "127.0.0.1", server.server_address[1])


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium (Debian: apt-get install chromium)")
def test_the_page_in_a_browser_by_keyboard_alone(server, writing):
    from playwright.sync_api import expect, sync_playwright

    wrong, asked = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        tab = browser.new_page(viewport={"width": 1200, "height": 900})
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(server.address)
        expect(tab.locator("#note")).to_contain_text("the history is empty")
        title = writing.catalogue.items.titles[3]
        tab.locator("#query").focus()
        tab.keyboard.type(title)
        expect(tab.locator("#found li").first).to_contain_text(title)
        tab.keyboard.press("ArrowDown")
        tab.keyboard.press("Enter")
        expect(tab.locator("#history li")).to_have_count(1)
        made = writing.answer([3], 10)
        best = writing.catalogue.items.titles[made.items[0].item]
        expect(tab.locator("#items tbody tr").first).to_contain_text(best)
        expect(tab.locator("#beams .beam").first).to_contain_text(best)
        expect(tab.locator("#beams code").first).to_have_text(made.beams[0].sid)
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        tab.screenshot(path=SCREENSHOTS / "serve.png", full_page=True)
        tab.locator("#drop").check()
        expect(tab.locator("#items tbody")).not_to_contain_text("S00003")
        assert wrong == []
        tab.locator("#query").fill("<img src=x onerror=document.title=1>")
        tab.keyboard.press("Enter")
        expect(tab.locator("#said")).to_contain_text("is no item of Synthetic")
        assert tab.title() == "bench serve"
        tab.set_viewport_size({"width": 360, "height": 740})
        assert tab.evaluate("document.documentElement.scrollWidth") <= 360
        tab.emulate_media(color_scheme="dark")
        tab.screenshot(path=SCREENSHOTS / "serve-phone-dark.png", full_page=True)
        browser.close()
    assert all(url.startswith(server.address) for url in asked)


def test_the_body_of_a_refused_request_is_no_request_of_its_own(server):
    inner = b"GET /api/model HTTP/1.1\r\nHost: localhost\r\n\r\n"
    head = b"POST /api/recommend HTTP/1.1\r\nHost: evil.example\r\nContent-Length: %d\r\n\r\n" % len(inner)
    with socket.create_connection(server.server_address[:2], 10) as client:
        client.sendall(head + inner)
        got = b""
        while part := client.recv(65536):
            got += part
    assert got.count(b"HTTP/1.1 ") == 1
    assert b" 403 " in got


def test_hosts_that_are_none_are_refused_in_one_line(writing):
    for host, line in (("nosuch.invalid", "is no address of this machine"), ("", "--host is empty")):
        with pytest.raises(BenchError, match=line):
            Server(writing, host, 0)
    with Server(writing, "127.0.0.2", 0) as other:
        assert "127.0.0.2" in other.hosts
        assert other.local


def test_few_items_of_a_request_are_searched_for(server):
    status, _ = recommend(server, {"history": ["drill valve zzz"] * 30})
    assert status in (400, 422)
    assert recommend(server, {"history": ["drill"] * 25})[0] == 400
