#!/usr/bin/env bash
# httpx-sse 0.4.3: a valid event stream with a lone retry field and a keep-alive comment.
# Guess: blocks without data are no events (the standard dispatches none for an empty data buffer). Seen: both come
# out of iter_sse() as events of type message with empty data, the comment once an id was seen; a client that parses
# data as JSON fails on the first keep-alive.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check httpx==0.28.1 httpx-sse==0.4.3
cat >"$folder/finding.py" <<'PYTHON'
import httpx
import httpx_sse

BODY = b"retry: 2000\n\nid: 1\nevent: metrics\ndata: {}\n\n: keep-alive\n\nid: 2\nevent: metrics\ndata: {}\n\n"


def answer(request):
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=BODY)


with httpx.Client(transport=httpx.MockTransport(answer)) as client:
    with httpx_sse.connect_sse(client, "GET", "http://localhost/") as source:
        events = [(event.event, event.data, event.id) for event in source.iter_sse()]
print(events)
assert events == [("message", "", ""), ("metrics", "{}", "1"), ("message", "", "1"), ("metrics", "{}", "2")]
PYTHON
"$folder/venv/bin/python" "$folder/finding.py"
