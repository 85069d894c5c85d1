"""Checkpoints as files: bytes with ranges and digests going out, parts with digests coming in."""

import base64
import hashlib
from typing import Any

import httpx
import pytest

from service.domain.run import RunKind
from service.domain.upload import MAX_OPEN_OF_ONE
from service.settings import Settings
from service.store import Stores
from tests.contracts.builders import new_checkpoint, start
from tests.service.api.client import Client

BUNDLE = bytes(range(256)) * 10_000
"""Several pieces long."""


def digest(data: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


@pytest.fixture
def path(stores: Stores) -> str:
    _, lease = start(stores)
    info = stores.checkpoints.put(
        lease, new_checkpoint(1, is_best=True, is_last=True), BUNDLE, (7, 1_048_576 + 3, 2_000_000)
    )
    return f"/v1/checkpoints/{info.id}"


class TestDownload:
    def test_the_file_comes_whole_with_name_size_and_digest(self, client: Client, path: str) -> None:
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.content == BUNDLE
        assert answer.headers["content-length"] == str(len(BUNDLE))
        assert answer.headers["etag"] == f'"{hashlib.sha256(BUNDLE).hexdigest()}"'
        assert answer.headers["repr-digest"] == digest(BUNDLE)
        assert answer.headers["content-type"] == "application/octet-stream"
        name = path.rpartition("/")[2]
        assert answer.headers["content-disposition"] == f'attachment; filename="{name}.ckpt"'

    def test_head_has_the_headers_alone(self, client: Client, path: str) -> None:
        answer, whole = client.request("HEAD", path), client.get(path)
        assert (answer.status_code, answer.content) == (200, b"")
        for name in ("content-length", "etag", "repr-digest", "content-type", "accept-ranges"):
            assert answer.headers[name] == whole.headers[name], name

    @pytest.mark.parametrize(
        ("wanted", "start", "stop"),
        [
            ("bytes=0-0", 0, 1),
            ("bytes=5-9", 5, 10),
            ("bytes=1048570-1048585", 1_048_570, 1_048_586),
            ("bytes=1999990-", 1_999_990, len(BUNDLE)),
            ("bytes=-3", len(BUNDLE) - 3, len(BUNDLE)),
            ("bytes=-99999999", 0, len(BUNDLE)),
            ("Bytes = 4 - 99999999", 4, len(BUNDLE)),
        ],
    )
    def test_a_range_is_that_part(
        self, client: Client, path: str, wanted: str, start: int, stop: int
    ) -> None:
        answer = client.get(path, headers={"Range": wanted})
        assert answer.status_code == 206
        assert answer.content == BUNDLE[start:stop]
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(BUNDLE)}"
        assert answer.headers["repr-digest"] == digest(BUNDLE)

    @pytest.mark.parametrize(
        "wanted", ["bytes=9-5", "bytes=-", "lines=1-2", "bytes=0-1,4-5", "bytes=a-b", "x"]
    )
    def test_what_is_no_range_or_several_gives_the_whole(
        self, client: Client, path: str, wanted: str
    ) -> None:
        answer = client.get(path, headers={"Range": wanted})
        assert (answer.status_code, len(answer.content)) == (200, len(BUNDLE))

    @pytest.mark.parametrize("wanted", [f"bytes={len(BUNDLE)}-", "bytes=-0"])
    def test_a_range_behind_the_end_is_refused_with_the_size(
        self, client: Client, path: str, wanted: str
    ) -> None:
        answer = client.get(path, headers={"Range": wanted})
        assert answer.status_code == 416
        assert answer.headers["content-range"] == f"bytes */{len(BUNDLE)}"
        assert answer.json()["code"] == "range_not_satisfiable"

    def test_a_range_of_another_version_gives_the_whole(self, client: Client, path: str) -> None:
        etag = client.get(path).headers["etag"]
        for tag, status in ((etag, 206), ('"other"', 200), (f"W/{etag}", 200)):
            answer = client.get(path, headers={"Range": "bytes=0-1", "If-Range": tag})
            assert answer.status_code == status, tag

    def test_what_a_client_has_is_not_sent_again(self, client: Client, path: str) -> None:
        etag = client.get(path).headers["etag"]
        answer = client.get(path, headers={"If-None-Match": f'"x", {etag}'})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == etag

    def test_its_facts_are_those_of_the_list(self, client: Client, path: str) -> None:
        facts = client.get(f"{path}/facts").json()
        assert client.get(f"/v1/runs/{facts['run']}/checkpoints").json()["data"] == [facts]
        assert facts["size_bytes"] == len(BUNDLE)

    def test_one_that_there_is_not_is_not_found(self, client: Client) -> None:
        for path in ("/v1/checkpoints/ckpt_none", "/v1/checkpoints/ckpt_none/facts"):
            assert client.get(path).status_code == 404


@pytest.fixture
def settings(sqlite_url: str) -> Settings:
    return Settings(
        database_url=sqlite_url, auth=False, max_body_bytes=1000, max_import_mib=1, max_queued_runs=20
    )


DATA = bytes(range(256)) * 9  # 2304 bytes: three parts


def announced(data: bytes = DATA, **facts: Any) -> dict[str, Any]:
    return {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), **facts}


def begin(client: Client, **facts: Any) -> str:
    answer = client.post("/v1/checkpoints", announced(**facts))
    assert answer.status_code == 201, answer.text
    return str(answer.headers["location"])


def put(client: Client, upload: str, number: int, data: bytes, **headers: str) -> httpx.Response:
    headers = {"Content-Type": "application/octet-stream", "Content-Digest": digest(data)} | headers
    return client.request("PUT", f"{upload}/parts/{number}", content=data, headers=headers)


def fill(client: Client, upload: str, data: bytes = DATA) -> None:
    for number in range(3):
        assert put(client, upload, number, data[number * 1000 : number * 1000 + 1000]).status_code == 200


class TestUpload:
    def test_parts_are_of_a_size_that_a_body_may_have(self, client: Client) -> None:
        shown = client.post("/v1/checkpoints", announced(name="n", labels={"team": "a"})).json()
        assert (shown["part_bytes"], shown["n_parts"], shown["parts"]) == (1000, 3, [])
        assert shown["run"] == shown["id"].replace("upl_", "run_")

    def test_it_says_which_parts_are_there_and_begun_again_goes_on(self, client: Client) -> None:
        upload = begin(client)
        assert put(client, upload, 2, DATA[2000:]).json()["parts"] == [2]
        assert put(client, upload, 0, DATA[:1000]).json()["parts"] == [0, 2]
        again = client.post("/v1/checkpoints", announced())
        assert (again.status_code, again.json()) == (200, client.get(upload).json())

    def test_a_complete_one_makes_one_run_with_its_name_and_labels(
        self, client: Client, stores: Stores
    ) -> None:
        upload = begin(client, name="n", labels={"team": "a"})
        fill(client, upload)
        runs = [client.post(f"{upload}/complete") for _ in range(2)]
        assert [answer.status_code for answer in runs] == [202, 202]
        first, again = (answer.json() for answer in runs)
        assert first["id"] == again["id"] == client.get(upload).json()["run"]
        assert (first["kind"], first["state"], first["name"]) == ("import", "queued", "n")
        assert first["labels"] == {"team": "a"}
        assert runs[1].headers["idempotent-replayed"] == "true"
        claimed = stores.runs.claim("w", kinds=[RunKind.IMPORT], lease_s=30)
        assert claimed is not None

    def test_a_part_that_was_changed_on_the_way_is_refused(self, client: Client) -> None:
        upload = begin(client)
        answer = put(client, upload, 0, b"x" * 1000, **{"Content-Digest": digest(DATA[:1000])})
        assert (answer.status_code, answer.json()["code"]) == (422, "digest_mismatch")
        assert client.get(upload).json()["parts"] == []

    @pytest.mark.parametrize("said", ["", "sha-256=abc", "sha-256=:YWJj:", "md5=:YWJj:", "sha-256=:!:"])
    def test_a_part_without_a_digest_is_refused_with_the_way_to_give_one(
        self, client: Client, said: str
    ) -> None:
        answer = put(client, begin(client), 0, DATA[:1000], **{"Content-Digest": said})
        assert answer.status_code == 400
        assert "Content-Digest: sha-256=:" in answer.json()["detail"]

    def test_a_part_of_another_length_or_number_is_refused(self, client: Client) -> None:
        upload = begin(client)
        for number, data, said in (
            (0, b"short", "1000 bytes"),
            (3, DATA[:1000], "0 to 2"),
            (2, DATA[:1000], "304 bytes"),
        ):
            answer = put(client, upload, number, data)
            assert answer.status_code == 422
            assert said in answer.json()["detail"]

    def test_a_longer_body_than_a_part_is_refused(self, client: Client) -> None:
        assert put(client, begin(client), 0, b"x" * 1001).status_code == 413

    def test_a_body_that_is_no_bytes_is_refused(self, client: Client) -> None:
        upload = begin(client)
        kinds = ("text/plain", "application/x-www-form-urlencoded")
        for header in (*({"Content-Type": kind} for kind in kinds), {"Content-Encoding": "gzip"}):
            answer = put(client, upload, 0, DATA[:1000], **header)
            assert answer.status_code == 415
            assert "application/octet-stream" in answer.json()["detail"]

    def test_what_is_missing_is_named(self, client: Client) -> None:
        upload = begin(client)
        put(client, upload, 1, DATA[1000:2000])
        answer = client.post(f"{upload}/complete")
        assert answer.status_code == 409
        assert answer.json()["missing"] == [0, 2]
        assert "2 of 3 parts are missing: 0, 2" in answer.json()["detail"]

    def test_a_file_that_is_not_the_announced_one_is_refused_with_both_digests(
        self, client: Client, stores: Stores
    ) -> None:
        upload = begin(client)
        other = b"y" + DATA[1:]
        fill(client, upload, other)
        answer = client.post(f"{upload}/complete")
        assert (answer.status_code, answer.json()["code"]) == (422, "digest_mismatch")
        for data in (DATA, other):
            assert hashlib.sha256(data).hexdigest() in answer.json()["detail"]
        assert stores.runs.list().data == []

    def test_too_large_a_file_is_refused_before_it_is_sent(self, client: Client) -> None:
        answer = client.post("/v1/checkpoints", announced() | {"size_bytes": 2**20 + 1})
        assert answer.status_code == 413
        assert "MAZE_MAX_IMPORT_MIB" in answer.json()["detail"]

    def test_an_announcement_that_cannot_be_is_refused(self, client: Client) -> None:
        for mistake in ({"size_bytes": 0}, {"sha256": "A" * 64}, {"sha256": "0"}, {"path": "/etc/passwd"}):
            assert client.post("/v1/checkpoints", announced() | mistake).status_code == 422, mistake

    def test_an_unknown_upload_is_not_found(self, client: Client) -> None:
        for answer in (
            client.get("/v1/checkpoints/uploads/upl_0"),
            put(client, "/v1/checkpoints/uploads/upl_0", 0, b"x"),
            client.post("/v1/checkpoints/uploads/upl_0/complete"),
        ):
            assert answer.status_code == 404

    def test_an_upload_is_given_up_until_it_is_complete(self, client: Client) -> None:
        upload = begin(client)
        assert client.request("DELETE", upload).status_code == 204
        assert client.get(upload).status_code == 404
        upload = begin(client)
        fill(client, upload)
        client.post(f"{upload}/complete")
        assert client.request("DELETE", upload).status_code == 409

    def test_a_small_file_is_imported_by_one_request_once_per_key(self, client: Client) -> None:
        headers = {
            "Content-Type": "application/octet-stream",
            "Repr-Digest": digest(DATA[:900]),
            "Idempotency-Key": "k",
        }
        answers = [
            client.request("POST", "/v1/checkpoints/import?name=n", content=DATA[:900], headers=headers)
            for _ in range(2)
        ]
        assert [answer.status_code for answer in answers] == [202, 202]
        first, again = (answer.json() for answer in answers)
        assert (first["id"], first["name"], first["kind"]) == (again["id"], "n", "import")
        empty = headers | {"Repr-Digest": digest(b""), "Content-Length": "0"}
        answer = client.request("POST", "/v1/checkpoints/import", content=b"", headers=empty)
        assert answer.status_code == 422
        assert "it is empty" in answer.json()["detail"]
        assert client.get("/v1/checkpoints/uploads").json()["data"] == []
        wrong = headers | {"Repr-Digest": digest(b"")}
        answer = client.request("POST", "/v1/checkpoints/import", content=DATA[:900], headers=wrong)
        assert answer.json()["code"] == "digest_mismatch"

    def test_one_s_open_uploads_are_listed_and_can_be_given_up(self, client: Client) -> None:
        uploads = [begin(client, name=str(number)) for number in range(3)]
        fill(client, uploads[1])
        client.post(f"{uploads[1]}/complete")
        listed = client.get("/v1/checkpoints/uploads").json()
        assert [upload["id"] for upload in listed["data"]] == [
            uploads[number].rpartition("/")[2] for number in (2, 0)
        ]
        assert listed["data"][0] == client.get(uploads[2]).json()
        client.request("DELETE", uploads[0])
        assert len(client.get("/v1/checkpoints/uploads").json()["data"]) == 1
        assert client.get("/v1/checkpoints/uploads?cursor=x").status_code == 422

    def test_where_there_is_no_room_the_way_out_is_named(self, client: Client) -> None:
        for number in range(MAX_OPEN_OF_ONE):
            begin(client, name=str(number))
        answer = client.post("/v1/checkpoints", announced(name="one more"))
        assert answer.status_code == 503
        assert "GET /v1/checkpoints/uploads" in answer.json()["detail"]
        client.request("DELETE", begin_again(client, "0"))
        begin(client, name="one more")


def begin_again(client: Client, name: str) -> str:
    return str(client.post("/v1/checkpoints", announced(name=name)).headers["location"])


def at_once(query: str = "", **headers: str) -> dict[str, Any]:
    said = {"Content-Type": "application/octet-stream", "Repr-Digest": digest(DATA[:900]), **headers}
    path = f"/v1/checkpoints/import{query}"
    return {"method": "POST", "url": path, "content": DATA[:900], "headers": said}


def send_at_once(client: Client, query: str = "") -> httpx.Response:
    return client.together([at_once(query)])[0]


class TestAtOnce:
    def test_the_same_file_at_the_same_time_makes_as_many_runs_as_one_after_the_other(
        self, client: Client
    ) -> None:
        answers = client.together([at_once()] * 8)
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["id"] for answer in answers}) == 8

    def test_with_the_same_key_it_is_one_run_and_nothing_else_stays(self, client: Client) -> None:
        answers = client.together([at_once(**{"Idempotency-Key": "k"})] * 8)
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert client.get("/v1/checkpoints/uploads").json()["data"] == []

    def test_a_request_that_made_no_run_leaves_no_upload(self, client: Client, settings: Settings) -> None:
        for _ in range(settings.max_queued_runs):
            assert send_at_once(client).status_code == 202
        assert send_at_once(client).status_code == 503
        assert client.get("/v1/checkpoints/uploads").json()["data"] == []

    @pytest.mark.parametrize("name", ["%00", "%0a", "a%1bb", "%C2%85", "", "x" * 201])
    def test_a_name_that_no_body_could_give_is_refused(self, client: Client, name: str) -> None:
        answer = send_at_once(client, f"?name={name}")
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["parameter"] == "name"
