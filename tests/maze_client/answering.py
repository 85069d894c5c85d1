"""Answers of a service that is not there, so that what a client does next can be seen."""

import httpx

RUN = {
    "id": "run_1",
    "kind": "train",
    "state": "running",
    "labels": {},
    "progress": {"epoch": 1, "n_epochs": 4, "fraction": 0.25},
    "latest_metrics": {"loss": "NaN"},
    "created_at": "2026-11-22T11:02:03.913Z",
    "a_member_of_tomorrow": 1,
}

SWEEP = {
    "id": "sweep_1",
    "state": "running",
    "labels": {},
    "n_jobs": 2,
    "counts": {},
    "created_at": RUN["created_at"],
    "a_member_of_tomorrow": 1,
}


class Answers(httpx.MockTransport):
    """Gives these answers in order, the last one again and again; keeps the requests.

    An answer is a response, or an error to raise.
    """

    def __init__(self, *answers):
        self.answers, self.requests = list(answers), []
        super().__init__(self._answer)

    def _answer(self, request):
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):
            return answer
        return httpx.Response(200, json=answer)


class Broken(httpx.SyncByteStream):
    """A body whose connection breaks behind these bytes."""

    def __init__(self, *chunks):
        self._chunks = chunks

    def __iter__(self):
        yield from self._chunks
        raise httpx.ReadError("connection reset")


def stream(*chunks, breaks=False):
    """A Server-Sent Events answer."""
    headers = {"content-type": "text/event-stream"}
    if breaks:
        return httpx.Response(200, headers=headers, stream=Broken(*chunks))
    return httpx.Response(200, headers=headers, content=b"".join(chunks))


def event(seq, kind="progress"):
    """An event as the service writes it."""
    data = f'{{"seq":{seq},"at":"2026-11-22T11:02:03.913Z","type":"{kind}","data":{{"text":"a\u2028b"}}}}'
    return f"id: {seq}\nevent: {kind}\ndata: {data}\nretry: 2000\n\n".encode()


def problem(status, code, headers=None, **members):
    """A problem as the service answers it."""
    return httpx.Response(status, json={"code": code, "detail": "What happened.", **members}, headers=headers)
