"""A file is whole or not there: taken up where the connection broke, begun anew where it has changed."""

import hashlib

import httpx
import pytest

from maze_client import Client, ConnectionFailed, MazeClientError
from tests.maze_client.answering import RUN, Answers, Broken

DATA = bytes(range(256)) * 4
SHA256 = hashlib.sha256(DATA).hexdigest()
CHECKPOINT = {
    "id": "ckpt_1", "run": "run_1", "epoch": 1, "step": 1, "kind": "last", "metrics": {}, "content_sha256": "",
    "weights_sha256": "", "size_bytes": len(DATA), "servable": True, "is_best": True, "is_last": True,
    "created_at": RUN["created_at"],
}  # fmt: skip
LISTED = {"data": [CHECKPOINT], "next_cursor": None, "has_more": False}


def head():
    headers = {"etag": f'"{SHA256}"', "content-range": f"bytes 0-0/{len(DATA)}"}
    return httpx.Response(206, headers=headers, content=DATA[:1])


def part(start, *chunks, status=206):
    return httpx.Response(status, stream=Broken(*chunks))


def run_of(answers, **settings):
    return Client("http://x", transport=answers, **settings).run("run_1")


def ranges(answers):
    return [request.headers.get("range") for request in answers.requests][3:]


def test_what_came_before_the_connection_broke_is_not_asked_for_again(clock, tmp_path):
    rest = httpx.Response(206, content=DATA[600:])
    answers = Answers(RUN, LISTED, head(), part(0, DATA[:100], DATA[100:500]), part(500, DATA[500:600]), rest)
    path = run_of(answers).download(tmp_path / "a.ckpt")
    assert path.read_bytes() == DATA
    assert ranges(answers) == ["bytes=0-", "bytes=500-", "bytes=600-"]
    assert {request.headers.get("if-range") for request in answers.requests[3:]} == {f'"{SHA256}"'}
    assert [each.name for each in tmp_path.iterdir()] == ["a.ckpt"]


def test_a_later_call_goes_on_where_an_earlier_one_ended(clock, tmp_path):
    answers = Answers(RUN, LISTED, head(), part(0, DATA[:300]), httpx.ConnectError("refused"))
    with pytest.raises(ConnectionFailed):
        run_of(answers, max_retries=1).download(tmp_path / "a.ckpt")
    assert not (tmp_path / "a.ckpt").exists()
    answers = Answers(RUN, LISTED, head(), httpx.Response(206, content=DATA[300:]))
    assert run_of(answers).download(tmp_path / "a.ckpt").read_bytes() == DATA
    assert ranges(answers) == ["bytes=300-"]


def test_a_whole_answer_takes_the_place_of_what_was_there(clock, tmp_path):
    whole = httpx.Response(200, content=DATA)
    answers = Answers(RUN, LISTED, head(), part(0, b"something else"), whole)
    assert run_of(answers).download(tmp_path / "a.ckpt").read_bytes() == DATA


def test_bytes_of_another_digest_are_not_kept(clock, tmp_path):
    answers = Answers(RUN, LISTED, head(), httpx.Response(206, content=b"!" * len(DATA)))
    with pytest.raises(MazeClientError, match="digest"):
        run_of(answers).download(tmp_path / "a.ckpt")
    assert list(tmp_path.iterdir()) == []
