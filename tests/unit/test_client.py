"""The API client: what it puts on the wire, and what it makes of the answers."""

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from botocore.credentials import Credentials

from scripts.client import Api

KEY, SECRET, REGION = "AKIDEXAMPLE", "wJalrXUtnFEMI", "eu-west-3"


@dataclass(frozen=True)
class Seen:
    """A request as the server saw it."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.answer = (200, "application/json", b"{}")
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/stage"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append(Seen(self.command, self.path, headers, body))
        status, kind, answer = self.server.answer
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Location", "http://127.0.0.1:9/")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_DELETE = do_POST

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def api(server: Server) -> Api:
    return Api(server.url, REGION, credentials=Credentials(KEY, SECRET))


def signature_of(seen: Seen) -> str:
    """Signature Version 4 by AWS's own recipe, written out, for the request as it arrived."""
    credential, signed_headers = (part.split("=")[1] for part in seen.headers["authorization"].split(", ")[:2])
    scope = credential.partition("/")[2]
    url = urlsplit(seen.path)
    query = "&".join(sorted(f"{quote(k, safe='-_.~')}={quote(v, safe='-_.~')}" for k, v in parse_qsl(url.query)))
    lines = [seen.method, quote(url.path, safe="/-_.~"), query]
    lines += [f"{name}:{seen.headers[name]}" for name in signed_headers.split(";")]
    lines += ["", signed_headers, hashlib.sha256(seen.body).hexdigest()]
    canonical = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{seen.headers['x-amz-date']}\n{scope}\n{canonical}"
    key = f"AWS4{SECRET}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def test_the_producers_routes_are_signed(server: Server, api: Api) -> None:
    api.submit({"target": "https://example.com/é", "channel": "webhook", "payload": "x"})
    api.submit_batch([{"payload": "a"}, {"payload": "b"}])
    api.get("abc")
    api.list(
        status="undelivered", since="2026-01-01T00:00:00.000Z", target="https://e.com/?a=b c&d", limit=5, cursor=None
    )
    api.cancel("abc")
    api.redeliver("abc")

    assert [(s.method, s.path.partition("?")[0]) for s in server.seen] == [
        ("POST", "/stage/messages"),
        ("POST", "/stage/messages/batch"),
        ("GET", "/stage/messages/abc"),
        ("GET", "/stage/messages"),
        ("DELETE", "/stage/messages/abc"),
        ("POST", "/stage/messages/abc/redeliver"),
    ]
    for seen in server.seen:
        assert f"Credential={KEY}/" in seen.headers["authorization"]
        assert f"/{REGION}/execute-api/aws4_request" in seen.headers["authorization"]
        assert seen.headers["authorization"].endswith(f"Signature={signature_of(seen)}")


def test_bodies_and_queries_arrive_as_given(server: Server, api: Api) -> None:
    api.submit({"payload": "é\u0000"})
    api.submit(b"{not json")
    api.submit_batch({"payload": n} for n in range(2))
    api.list(target="https://e.com/?a=b c&d", limit=5, cursor=None)

    first, second, third, fourth = server.seen
    assert json.loads(first.body) == {"payload": "é\u0000"}
    assert first.headers["content-type"] == "application/json"
    assert second.body == b"{not json"
    assert json.loads(third.body) == {"messages": [{"payload": 0}, {"payload": 1}]}
    assert dict(parse_qsl(urlsplit(fourth.path).query)) == {"target": "https://e.com/?a=b c&d", "limit": "5"}


def test_the_targets_routes_carry_a_capability_and_no_signature(server: Server, api: Api) -> None:
    api.ack(f"{server.url}/messages/abc/ack?cap=k1.x.y")
    api.ack("abc", "k1.x.y")
    api.nack("abc", "no room", retry_after=60, capability="k1.x.y")
    api.nack(f"{server.url}/messages/abc/nack?cap=k1.x.y", "broken")
    api.acks([{"capability": "k1.x.y"}])
    api.page(f"{server.url}/messages/abc/ack?cap=k1.x.y")

    assert [(s.method, s.path, s.headers.get("until-ack-capability")) for s in server.seen] == [
        ("POST", "/stage/messages/abc/ack?cap=k1.x.y", None),
        ("POST", "/stage/messages/abc/ack", "k1.x.y"),
        ("POST", "/stage/messages/abc/nack", "k1.x.y"),
        ("POST", "/stage/messages/abc/nack?cap=k1.x.y", None),
        ("POST", "/stage/acks", None),
        ("GET", "/stage/messages/abc/ack?cap=k1.x.y", None),
    ]
    assert not any("authorization" in s.headers for s in server.seen)
    assert [json.loads(s.body) for s in server.seen[2:5]] == [
        {"reason": "no room", "retry_after": 60},
        {"reason": "broken"},
        {"acks": [{"capability": "k1.x.y"}]},
    ]


def test_targets_may_answer_at_another_address(server: Server) -> None:
    api = Api("http://127.0.0.1:9", REGION, ack_base_url=server.url + "/", credentials=Credentials(KEY, SECRET))

    api.ack("abc", "cap")
    api.acks([])

    assert [s.path for s in server.seen] == ["/stage/messages/abc/ack", "/stage/acks"]


@pytest.mark.parametrize(
    ("kind", "sent", "parsed"),
    [
        ("application/json", b'{"id":"abc"}', {"id": "abc"}),
        ("application/problem+json; charset=utf-8", b'{"title":"Bad"}', {"title": "Bad"}),
        ("text/html", b"<p>{}</p>", "<p>{}</p>"),
        ("application/json", b"", ""),
    ],
)
def test_answers_are_parsed_by_their_type(server: Server, api: Api, kind: str, sent: bytes, parsed: object) -> None:
    server.answer = (409, kind, sent)

    answer = api.get("abc")

    assert (answer.status, answer.body, answer.headers["content-type"]) == (409, parsed, kind)


@pytest.mark.parametrize("status", [302, 500, 503])
def test_nothing_is_followed_or_repeated(server: Server, api: Api, status: int) -> None:
    server.answer = (status, "text/plain", b"no")

    assert api.get("abc").status == status
    assert len(server.seen) == 1


def test_credentials_come_from_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")

    Api(server.url, REGION).get("abc")

    assert server.seen[0].headers["x-amz-security-token"] == "token"
    assert server.seen[0].headers["authorization"].endswith(f"Signature={signature_of(server.seen[0])}")


def test_without_credentials_it_says_what_to_set(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botocore.session.Session.get_credentials", lambda _: None)

    with pytest.raises(LookupError, match="AWS_ACCESS_KEY_ID"):
        Api(server.url, REGION).get("abc")

    assert server.seen == []
