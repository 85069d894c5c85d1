"""Follows a run's events with httpx-sse and with sseclient-py, over a restart of the service, to its end."""

import json
import sys
import time

import httpx
import requests
import sseclient
from httpx_sse import connect_sse

URL = sys.argv[1]


def with_httpx_sse(headers):
    with httpx.Client(timeout=60) as client, connect_sse(client, "GET", URL, headers=headers) as source:
        yield from source.iter_sse()


def with_sseclient(headers):
    accept = {"Accept": "text/event-stream"}
    with requests.get(URL, headers=accept | headers, stream=True, timeout=60) as answer:
        yield from sseclient.SSEClient(answer).events()


for connect in (with_httpx_sse, with_sseclient):
    seen, last = [], None
    while last is None or last.event != "end":
        try:
            for event in connect({} if last is None else {"Last-Event-ID": last.id}):
                assert event.data, "an empty event"
                assert json.loads(event.data)["seq"] == int(event.id)
                seen.append(int(event.id))
                last = event
                print(event.id, flush=True)
        except (httpx.HTTPError, requests.RequestException):
            time.sleep(0.1)
    assert seen == list(range(1, len(seen) + 1)), seen
    assert list(connect({"Last-Event-ID": last.id})) == []
