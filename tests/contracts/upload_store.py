"""What every store of uploads must do: subclass the suite and give a ``stores`` fixture."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text

from service.domain.errors import CapacityError, NotFoundError, StateConflictError
from service.domain.run import RunKind, RunState
from service.domain.upload import NewUpload, Upload, upload_id_of
from service.domain.use_cases import new_run_id
from service.store import Stores
from service.store.tables import blob
from tests.contracts.builders import new_checkpoint, start, submit

DATA = b"0123456789"


def begin(stores: Stores, data: bytes = DATA, **facts: Any) -> Upload:
    new = {
        "id": upload_id_of(new_run_id()),
        "digest": hashlib.sha256(data).hexdigest(),
        "request": {"name": "n"},
        "size_bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "part_bytes": 4,
    }
    return stores.uploads.begin(NewUpload(**{**new, **facts}), max_open=3, max_open_of_one=2)[0]


def fill(stores: Stores, upload: Upload, data: bytes = DATA) -> None:
    for number in range(upload.n_parts):
        stores.uploads.put_part(upload.id, number, data[number * 4 : number * 4 + 4])


def n_blobs(stores: Stores) -> int:
    with stores.database.reading() as connection:
        return len(connection.execute(blob.select()).all())


def expire(stores: Stores) -> None:
    with stores.database.writing() as connection:
        connection.execute(text("UPDATE upload SET expires_at = created_at"))


class UploadStoreContract:
    """Sending in parts, and what is forgotten."""

    def test_parts_come_in_any_order_and_are_read_in_theirs(self, stores: Stores) -> None:
        upload = begin(stores)
        assert (upload.n_parts, upload.missing, upload.length_of(2)) == (3, [0, 1, 2], 2)
        stores.uploads.put_part(upload.id, 2, b"89")
        assert stores.uploads.put_part(upload.id, 0, b"0123").missing == [1]
        stores.uploads.put_part(upload.id, 1, b"4567")
        assert stores.uploads.get(upload.id).parts == (0, 1, 2)
        assert stores.uploads.sha256(upload.id) == upload.sha256
        assert stores.uploads.read(upload.id) == DATA

    def test_a_part_that_is_sent_again_takes_the_place_of_the_first(self, stores: Stores) -> None:
        upload = begin(stores)
        for data in (b"wrong", b"0123", b"0123"):
            stores.uploads.put_part(upload.id, 0, data)
        assert stores.uploads.get(upload.id).parts == (0,)
        assert n_blobs(stores) == 1

    def test_parts_of_the_same_bytes_may_come_at_the_same_time(self, stores: Stores) -> None:
        data = bytes(80)
        upload = begin(stores, data)
        with ThreadPoolExecutor(8) as threads:
            numbers = [*range(upload.n_parts)] * 2
            list(threads.map(lambda number: stores.uploads.put_part(upload.id, number, bytes(4)), numbers))
        assert stores.uploads.read(upload.id) == data
        assert n_blobs(stores) == 1

    def test_parts_that_are_not_what_was_announced_are_not_read(self, stores: Stores) -> None:
        upload = begin(stores)
        fill(stores, upload, b"0123x56789")
        assert stores.uploads.sha256(upload.id) != upload.sha256
        with pytest.raises(NotFoundError, match="not what was announced"):
            stores.uploads.read(upload.id)

    def test_the_same_upload_goes_on_and_another_one_is_begun(self, stores: Stores) -> None:
        first = begin(stores)
        stores.uploads.put_part(first.id, 0, b"0123")
        assert begin(stores).id == first.id
        assert begin(stores).parts == (0,)
        assert begin(stores, digest="other").id != first.id

    def test_so_many_are_open_and_no_more(self, stores: Stores) -> None:
        for number in range(3):
            begin(stores, digest=str(number), created_by=str(number))
        with pytest.raises(CapacityError, match="3 uploads are open"):
            begin(stores, digest="3", created_by="3")
        waiting = begin(stores, digest="0")
        start(stores, id=waiting.run_id, kind=RunKind.IMPORT)
        with pytest.raises(CapacityError, match="wait to be imported"):
            begin(stores, digest="3", created_by="3")
        expire(stores)
        stores.uploads.sweep()
        begin(stores, digest="3", created_by="3")

    @pytest.mark.parametrize("who", ["a", None])
    def test_one_token_leaves_room_for_others_and_can_give_up_its_own(
        self, stores: Stores, who: str | None
    ) -> None:
        mine = [begin(stores, digest=digest, created_by=who).id for digest in ("1", "2")]
        with pytest.raises(CapacityError, match=r"2 uploads of yours .* GET /v1/checkpoints/uploads"):
            begin(stores, digest="3", created_by=who)
        others = begin(stores, digest="3", created_by="b")
        first = stores.uploads.list(who, limit=1)
        assert [upload.id for upload in first.data] == mine[:0:-1]
        assert stores.uploads.list(who, limit=1, cursor=first.next_cursor).data[0].id == mine[0]
        assert [upload.id for upload in stores.uploads.list("b").data] == [others.id]
        stores.uploads.drop(mine[0])
        begin(stores, digest="4", created_by=who)

    def test_the_list_has_what_is_open_alone(self, stores: Stores) -> None:
        complete, expired = (
            begin(stores, digest="1", created_by="a"),
            begin(stores, digest="2", created_by="a"),
        )
        submit(stores, id=complete.run_id, kind=RunKind.IMPORT)
        assert [upload.id for upload in stores.uploads.list("a").data] == [expired.id]
        expire(stores)
        assert stores.uploads.list("a").data == []

    def test_announced_at_the_same_time_it_is_one_upload(self, stores: Stores) -> None:
        with ThreadPoolExecutor(8) as threads:
            ids = {upload.id for upload in threads.map(lambda _: begin(stores), range(16))}
        assert len(ids) == 1

    def test_no_more_are_open_when_all_are_begun_at_the_same_time(self, stores: Stores) -> None:
        def begun(number: int) -> bool:
            try:
                begin(stores, digest=str(number), created_by=str(number))
            except CapacityError:
                return False
            return True

        with ThreadPoolExecutor(8) as threads:
            assert sum(threads.map(begun, range(16))) == 3

    def test_one_whose_time_is_up_takes_nothing_more_before_it_is_swept(self, stores: Stores) -> None:
        upload = begin(stores)
        expire(stores)
        for act in (
            lambda: stores.uploads.get(upload.id),
            lambda: stores.uploads.put_part(upload.id, 0, b"0123"),
            lambda: stores.uploads.drop(upload.id),
        ):
            with pytest.raises(NotFoundError, match="its time is up"):
                act()
        assert n_blobs(stores) == 0

    def test_an_upload_that_nobody_completed_is_forgotten_with_its_bytes(self, stores: Stores) -> None:
        upload = begin(stores)
        fill(stores, upload)
        assert stores.uploads.sweep() == 0
        expire(stores)
        assert stores.uploads.sweep() == 1
        assert n_blobs(stores) == 0
        with pytest.raises(NotFoundError, match="begin anew"):
            stores.uploads.get(upload.id)

    def test_an_upload_that_is_given_up_leaves_nothing(self, stores: Stores) -> None:
        upload, other = begin(stores), begin(stores, digest="other")
        fill(stores, upload)
        stores.uploads.put_part(other.id, 0, b"0123")
        stores.uploads.drop(upload.id)
        with pytest.raises(NotFoundError):
            stores.uploads.drop(upload.id)
        assert n_blobs(stores) == 1  # which the other one has too
        submit(stores, id=other.run_id, kind=RunKind.IMPORT)
        with pytest.raises(StateConflictError, match="is complete"):
            stores.uploads.drop(other.id)

    def test_a_run_keeps_its_upload_until_it_has_ended(self, stores: Stores) -> None:
        upload = begin(stores)
        fill(stores, upload)
        expire(stores)
        _, lease = start(stores, id=upload.run_id, kind=RunKind.IMPORT)
        assert stores.uploads.sweep() == 0
        with pytest.raises(StateConflictError, match=upload.run_id):
            stores.uploads.put_part(upload.id, 0, b"0123")
        assert begin(stores).id != upload.id
        stores.checkpoints.put(lease, new_checkpoint(1), DATA[:4])
        stores.runs.finish(lease, RunState.FAILED, reason="checkpoint_damaged")
        assert stores.uploads.sweep() == 1
        assert stores.checkpoints.list(upload.run_id).data[0].size_bytes == 4
        assert n_blobs(stores) == 1  # which the checkpoint has too

    def test_no_part_of_no_upload_is_stored(self, stores: Stores) -> None:
        submit(stores)
        with pytest.raises(NotFoundError, match="no upload"):
            stores.uploads.put_part("upl_none", 0, b"0")
        assert n_blobs(stores) == 0
