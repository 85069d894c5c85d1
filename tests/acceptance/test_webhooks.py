"""The end of a run is told to a receiver, signed, though the first answer is an error or the worker is killed."""

import base64
import hashlib
import hmac
import json
import os
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from service.store.engine import opened
from tests.acceptance.conftest import MORTAL
from tests.acceptance.server import stop
from tests.service.databases import url_for

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SHORT = {"configuration": "test", "overrides": {"env.name": "CartPole-v1"}, "seed": 1}


class Receiver:
    """Keeps what it is sent; its answers are given in turn, None lets the sender wait."""

    def __init__(self, *answers):
        self.got, self.answers, self.let_go = [], list(answers), threading.Event()

    def answer(self, message):
        return self.answers.pop(0) if self.answers else 204

    @contextmanager
    def listening(self):
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append((dict(self.headers), body))
                status = receiver.answer(self.headers["webhook-id"])
                if status is None:
                    receiver.let_go.wait(120)
                    return
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/hook"
        finally:
            self.let_go.set()
            server.shutdown()
            server.server_close()
            thread.join()


def check_signature(headers, body):
    headers = {name.lower(): value for name, value in headers.items()}
    text = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    return headers


def make_due(server):
    """Put the next attempt of every message that waits into the past: no test need wait for it."""
    statement = "UPDATE webhook_delivery SET due_at = '2000-01-01 00:00:00.000000' WHERE state = 'waiting'"
    with opened(url_for(server.folder)) as database, database.writing() as connection:
        connection.exec_driver_sql(statement)


def test_an_end_is_told_again_until_it_is_taken_and_after_the_worker_was_killed(mortal):
    receiver, server = Receiver(503, 204, None), mortal
    with receiver.listening() as url:
        refused = server.post("/v1/webhooks", {"url": "http://localhost:1/"})
        assert refused.status_code == 422
        made = server.post("/v1/webhooks", {"url": url, "types": ["run.succeeded"], "secret": SECRET})
        assert made.status_code == 201
        path = f"/v1/webhooks/{made.json()['id']}"
        run = server.post("/v1/train", SHORT, traceparent=TRACE).json()["id"]
        server.wait(run)

        def delivery(**facts):
            found = server.get(f"{path}/deliveries")["data"]
            return found[0] if found and found[0] == found[0] | facts else None

        server.wait_for(lambda: delivery(status=503), "the first attempt")
        make_due(server)
        told = server.wait_for(lambda: delivery(state="delivered"), "the second attempt")
        assert (told["type"], told["run"], told["attempts"], told["status"]) == ("run.succeeded", run, 2, 204)
        first, second = (check_signature(*each) for each in receiver.got)
        assert first["webhook-id"] == second["webhook-id"] == told["id"]
        assert first["traceparent"] == TRACE
        message = json.loads(receiver.got[0][1])
        assert (message["type"], message["data"]["id"], message["data"]["state"]) == (
            "run.succeeded", run, "succeeded",
        )  # fmt: skip

        server.post(f"{path}/test", {})
        server.wait_for(lambda: len(receiver.got) == 3, "an attempt")
        (worker,) = server.wait_for(lambda: server.processes("maze: worker"), "the worker")
        worker.kill()  # in the middle of the attempt
        worker.wait(30)
        make_due(server)
        told = server.wait_for(lambda: delivery(state="delivered"), "the attempt of another worker")
        assert (told["type"], told["attempts"]) == ("webhook.test", 2)
        third, fourth = (check_signature(*each) for each in receiver.got[2:])
        assert third["webhook-id"] == fourth["webhook-id"] == told["id"]
        server.client.delete(path)


class Counting(Receiver):
    """Answers 204, once it may, and notes messages that came again while they were still here."""

    def __init__(self):
        super().__init__()
        self.may_answer, self.here, self.twice, self.lock = threading.Event(), [], [], threading.Lock()
        self.may_answer.set()

    def answer(self, message):
        with self.lock:
            self.twice += [message] * (message in self.here)
            self.here.append(message)
        self.may_answer.wait(120)
        with self.lock:
            self.here.remove(message)
        return 204


@contextmanager
def another_worker(server, log):
    """A second worker of the same service, as a process of its own."""
    facts = {"database_url": url_for(server.folder), **MORTAL}
    environment = {**os.environ, **{f"MAZE_{name.upper()}": str(value) for name, value in facts.items()}}
    command = [sys.executable, "-m", "service.cli", "worker"]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=server.folder, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process
    finally:
        stop(process)


def test_of_two_workers_each_message_has_one_and_those_of_a_killed_one_are_sent_again(mortal, tmp_path):
    server, log = mortal, tmp_path / "worker.log"
    receivers = [Counting() for _ in range(3)]
    with ExitStack() as stack:
        urls = [stack.enter_context(receiver.listening()) for receiver in receivers]
        second = stack.enter_context(another_worker(server, log))
        server.wait_for(lambda: "slots" in log.read_text(), "the second worker")
        made = [server.post("/v1/webhooks", {"url": url}).json()["id"] for url in urls]
        sent = set()

        def send(count):
            for _ in range(count):
                sent.update(server.post(f"/v1/webhooks/{hook}/test", {}).json()["id"] for hook in made)

        def waiting():
            found = [one for hook in made for one in server.get(f"/v1/webhooks/{hook}/deliveries")["data"]]
            return [one for one in found if one["state"] != "delivered"]

        def arrived():
            return [headers["webhook-id"] for receiver in receivers for headers, _ in receiver.got]

        send(8)
        server.wait_for(lambda: not waiting(), "what both of them send")
        assert sorted(arrived()) == sorted(sent)

        for receiver in receivers:
            receiver.may_answer.clear()
        send(2)
        server.wait_for(lambda: len(arrived()) == len(sent), "a message of each worker at each receiver")
        second.kill()
        for receiver in receivers:
            receiver.may_answer.set()
        server.wait_for(lambda: len(waiting()) == len(made), "what the other one had begun")
        make_due(server)
        server.wait_for(lambda: not waiting(), "what the killed one had begun")
        assert set(arrived()) == sent
        assert len(arrived()) == len(sent) + 3
        assert [receiver.twice for receiver in receivers] == [[], [], []]
        for hook in made:
            server.client.delete(f"/v1/webhooks/{hook}")
