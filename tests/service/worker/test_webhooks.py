"""Messages are sent to the address that was judged, signed, with the name's own TLS, and to no private one."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from service.domain.run import RunState
from service.domain.webhooks import Delivery, DeliveryState
from service.store import Stores
from service.worker import webhooks
from service.worker.webhooks import AT_A_HOST, RESPONSE_BYTES, Messenger
from tests.contracts.builders import start

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ENDS = ["run.succeeded"]


@pytest.fixture
def stores(sqlite_stores: Stores) -> Stores:
    return sqlite_stores


def answer(status: int, text: str = "") -> httpx.Response:
    """An answer that has still to be read."""
    headers = {"Location": "https://elsewhere.example/"}
    return httpx.Response(status, headers=headers, stream=httpx.ByteStream(text.encode()))


class Names:
    """What names lead to, in place of DNS."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **addresses: list[str]) -> None:
        self.asked: list[str] = []

        def look_up(host: str, port: int, **_: Any) -> list[Any]:
            self.asked.append(host)
            found = addresses.get(host.partition(".")[0])
            if found is None:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)


def told(
    stores: Stores,
    answers: Callable[[httpx.Request], httpx.Response],
    url: str = "https://hooks.example:444/a?b=c",
) -> tuple[Delivery, list[httpx.Request]]:
    """What becomes of the message of one run's end, and the requests that were made."""
    hook = stores.webhooks.create(url, ENDS, SECRET)
    _, lease = start(stores)
    stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed")
    requests: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return answers(request)

    Messenger(stores.webhooks, ["inside"], httpx.MockTransport(handle)).send_due()
    message = stores.webhooks.deliveries(hook.id).data[0]  # the newest
    return message, requests


def test_it_goes_to_the_judged_address_under_the_name_and_is_signed(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names(monkeypatch, hooks=["93.184.216.34", "8.8.8.8"])
    message, (request,) = told(stores, lambda _: answer(200, "y" * 10_000))
    assert (message.state, message.status, message.attempts) == (DeliveryState.DELIVERED, 200, 1)
    assert message.response == "y" * RESPONSE_BYTES
    assert str(request.url) == "https://93.184.216.34:444/a?b=c"
    assert request.headers["host"] == "hooks.example:444"
    assert request.extensions["sni_hostname"] == "hooks.example"
    assert names.asked == ["hooks.example"]
    assert json.loads(request.content)["type"] == "run.succeeded"
    verifier = pytest.importorskip("standardwebhooks").Webhook(SECRET)
    assert verifier.verify(request.content, dict(request.headers))["data"]["id"] == message.run_id


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["93.184.216.34", "10.0.0.1"], ["::1"], ["::ffff:192.168.0.1"], ["169.254.169.254"]],
)
def test_a_name_that_leads_into_a_private_network_is_not_called(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, addresses: list[str]
) -> None:
    Names(monkeypatch, hooks=addresses)
    message, requests = told(stores, lambda _: answer(200))
    assert (message.state, requests) == (DeliveryState.WAITING, [])
    assert "private network" in str(message.error)


def test_a_host_that_the_operator_lists_may_be_private(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    Names(monkeypatch, inside=["10.0.0.1"])
    message, (request,) = told(stores, lambda _: answer(204), "http://inside/x")
    assert (message.state, str(request.url)) == (DeliveryState.DELIVERED, "http://10.0.0.1/x")


def test_a_listed_host_that_is_listed_no_more_is_not_called(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    Names(monkeypatch, other=["10.0.0.1"])
    message, requests = told(stores, lambda _: answer(204), "http://other/x")
    assert (message.state, requests) == (DeliveryState.WAITING, [])


@pytest.mark.parametrize("status", [301, 307, 400, 429, 500, 503])
def test_what_was_not_taken_waits_and_no_redirect_is_followed(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    Names(monkeypatch, hooks=["8.8.8.8"])
    message, requests = told(stores, lambda _: answer(status))
    assert len(requests) == 1
    assert (message.state, message.status) == (DeliveryState.WAITING, status)
    assert 3.0 < (message.due_at - message.created_at).total_seconds() < 60.0


def test_a_receiver_that_is_gone_is_disabled(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, hooks=["8.8.8.8"])
    message, _ = told(stores, lambda _: answer(410))
    assert message.state is DeliveryState.FAILED
    assert stores.webhooks.get(message.webhook_id).disabled_at is not None


def test_a_name_that_there_is_not_and_a_connection_that_breaks_are_tried_again(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    Names(monkeypatch)
    message, _ = told(stores, broken)
    assert (message.state, "Name or service" in str(message.error)) == (DeliveryState.WAITING, True)
    Names(monkeypatch, hooks=["8.8.8.8"])
    message, _ = told(stores, broken)
    assert (message.state, "refused" in str(message.error)) == (DeliveryState.WAITING, True)


def test_a_receiver_that_does_not_answer_is_left(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "ATTEMPT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hook = stores.webhooks.create(f"http://127.0.0.1:{silent.getsockname()[1]}/", ENDS, SECRET)
        stores.webhooks.test(hook.id)
        Messenger(stores.webhooks, ["127.0.0.1"]).send_due()
    (message,) = stores.webhooks.deliveries(hook.id).data
    assert (message.state, message.status) == (DeliveryState.WAITING, None)
    assert message.error is not None


class Receiver:
    """A server that keeps the ids of what it is sent, in ``log`` of all receivers, and how many came at a time."""

    def __init__(
        self, log: list[tuple[str, str]], name: str, answer: Callable[[str], int] = lambda _: 204
    ) -> None:
        self.log, self.name, self.answer = log, name, answer
        self.most_at_once = 0
        self._open: list[str] = []
        self._lock = threading.Lock()
        self.twice: list[str] = []

    @contextmanager
    def listening(self) -> Iterator[str]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                status = receiver.receive(self.headers["webhook-id"])
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def receive(self, message: str) -> int:
        with self._lock:
            if message in self._open:
                self.twice.append(message)
            self._open.append(message)
            self.most_at_once = max(self.most_at_once, len(self._open))
        try:
            return self.answer(message)
        finally:
            with self._lock:
                self._open.remove(message)
                self.log.append((self.name, message))


def made(stores: Stores, url: str, n_messages: int) -> str:
    """A webhook with messages that are due."""
    hook = stores.webhooks.create(url, ENDS, SECRET)
    for _ in range(n_messages):
        stores.webhooks.test(hook.id)
    return hook.id


def states(stores: Stores, hook: str) -> set[str]:
    return {each.state for each in stores.webhooks.deliveries(hook).data}


def test_a_slow_receiver_delays_its_own_messages_alone(stores: Stores) -> None:
    log: list[tuple[str, str]] = []
    has_all = threading.Event()

    def quickly(_: str) -> int:
        if len(log) == 11:
            has_all.set()
        return 204

    def slowly(_: str) -> int:
        has_all.wait(10)
        return 204

    slow, quick = Receiver(log, "slow", slowly), Receiver(log, "quick", quickly)
    with slow.listening() as slow_url, quick.listening() as quick_url:
        hooks = [made(stores, slow_url, 20), made(stores, quick_url, 12)]
        Messenger(stores.webhooks, ["127.0.0.1"]).send_due()
    assert [name for name, _ in log] == ["quick"] * 12 + ["slow"] * 20
    assert (slow.most_at_once, quick.most_at_once) == (1, 1)
    assert [states(stores, hook) for hook in hooks] == [{"delivered"}] * 2


def test_a_host_has_few_messages_at_a_time_however_many_webhooks_name_it(stores: Stores) -> None:
    full = threading.Event()

    def answer(_: str) -> int:
        if receiver.most_at_once == AT_A_HOST:
            full.set()
        full.wait(10)  # the first stay until as many as may be are there, however slowly they come
        return 204

    receiver = Receiver([], "one", answer)
    with receiver.listening() as url:
        for number in range(10):
            made(stores, f"{url}{number}", 1)
        Messenger(stores.webhooks, ["127.0.0.1"]).send_due()
    assert (len(receiver.log), receiver.most_at_once) == (10, AT_A_HOST)


@pytest.mark.parametrize("status", [204, 410])
def test_of_a_webhook_that_is_no_more_nothing_further_is_sent(stores: Stores, status: int) -> None:
    def answer(_: str) -> int:
        if status == 204:
            stores.webhooks.delete(hook)
        return status

    receiver = Receiver([], "gone", answer)
    with receiver.listening() as url:
        hook = made(stores, url, 10)
        Messenger(stores.webhooks, ["127.0.0.1"]).send_due()
    assert len(receiver.log) == 1
    assert status == 204 or states(stores, hook) == {"failed"}


def test_of_several_workers_each_message_has_one_and_none_is_forgotten(stores: Stores) -> None:
    log: list[tuple[str, str]] = []
    receivers = [Receiver(log, str(number)) for number in range(3)]
    with ExitStack() as stack:
        urls = [stack.enter_context(receiver.listening()) for receiver in receivers]
        hooks = [made(stores, url, 10) for url in urls]
        senders = [
            threading.Thread(target=Messenger(stores.webhooks, ["127.0.0.1"]).send_due) for _ in range(4)
        ]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
    messages = [each.id for hook in hooks for each in stores.webhooks.deliveries(hook).data]
    assert sorted(message for _, message in log) == sorted(messages)
    assert [receiver.twice for receiver in receivers] == [[], [], []]


def test_silent_name_servers_hold_up_no_other_name(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    known = threading.Event()
    real = socket.getaddrinfo

    def look_up(host: str, *given: Any, **more: Any) -> Any:
        if host.startswith("silent"):
            known.wait(10)
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        return real(host, *given, **more)

    def answer(_: str) -> int:
        assert not known.is_set()
        known.set()
        return 204

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    receiver = Receiver([], "quick", answer)
    with receiver.listening() as url:
        for number in range(40):
            made(stores, f"https://silent{number}.example/", 1)
        hook = made(stores, url, 1)
        Messenger(stores.webhooks, ["127.0.0.1"]).send_due()
    assert states(stores, hook) == {"delivered"}
