"""The end of a run is told to a receiver, signed, though the first answer is an error or the worker is killed."""

import base64
import hashlib
import hmac
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.acceptance.server import serving

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SHORT = {"configuration": "test", "overrides": {"env.name": "CartPole-v1"}, "seed": 1}


class Receiver:
    """Keeps what it is sent; its answers are given in turn, None lets the sender wait."""

    def __init__(self, *answers):
        self.got, self.answers, self.let_go = [], list(answers), threading.Event()

    @contextmanager
    def listening(self):
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append((dict(self.headers), body))
                status = receiver.answers.pop(0) if receiver.answers else 204
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


def test_an_end_is_told_again_until_it_is_taken_and_after_the_worker_was_killed(tmp_path):
    receiver = Receiver(503, 204, None)
    settings = {"webhook_private_hosts": "127.0.0.1", "lease_s": 3, "heartbeat_s": 0.5}
    with receiver.listening() as url, serving(tmp_path, **settings) as server:
        refused = server.post("/v1/webhooks", {"url": "http://localhost:1/"})
        assert refused.status_code == 422
        made = server.post("/v1/webhooks", {"url": url, "types": ["run.succeeded"], "secret": SECRET})
        assert made.status_code == 201
        path = f"/v1/webhooks/{made.json()['id']}"
        run = server.post("/v1/train", SHORT, traceparent=TRACE).json()["id"]
        server.wait(run)

        def delivery():
            found = server.get(f"{path}/deliveries")["data"]
            return found[0] if found and found[0]["state"] == "delivered" else None

        told = server.wait_for(delivery, "the second attempt")
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
        told = server.wait_for(delivery, "the attempt of another worker")
        assert (told["type"], told["attempts"]) == ("webhook.test", 2)
        third, fourth = (check_signature(*each) for each in receiver.got[2:])
        assert third["webhook-id"] == fourth["webhook-id"] == told["id"]
