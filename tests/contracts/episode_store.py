"""What every episode store must do: subclass the suite and give a ``stores`` fixture."""

import hashlib
import math

import pytest

from service.domain.errors import NotFoundError, StaleLeaseError
from service.domain.run import EventType, RunKind, RunState
from service.store import Stores
from tests.contracts.builders import new_episode, start


class EpisodeStoreContract:
    """Storing, listing and reading episodes."""

    def test_an_episode_reads_back_with_its_trajectory(self, stores: Stores) -> None:
        run, lease = start(stores, kind=RunKind.ROLLOUT)
        stores.episodes.add(lease, new_episode(0, truncated=True, has_trajectory=True), b"trajectory")
        stores.episodes.add(lease, new_episode(1, seed=None), None)
        assert stores.episodes.list(run.id).data == [
            new_episode(0, truncated=True, has_trajectory=True),
            new_episode(1, seed=None),
        ]
        assert stores.episodes.trajectory(run.id, 0) == b"trajectory"
        assert stores.episodes.picture(run.id, 0, "trajectory").read(0, 20) == b"trajectory"

    def test_an_episode_reads_back_with_its_video_and_loses_it_when_replaced(self, stores: Stores) -> None:
        run, lease = start(stores, kind=RunKind.ROLLOUT)
        stores.episodes.add(lease, new_episode(0, has_video=True), None, b"video", b"picture")
        assert stores.episodes.get(run.id, 0) == new_episode(0, has_video=True)
        video, picture = (stores.episodes.picture(run.id, 0, kind) for kind in ("video", "thumbnail"))
        assert (video.read(1, 4), video.size_bytes) == (b"ide", 5)
        assert picture.read(0, 7) == b"picture"
        assert picture.sha256 == hashlib.sha256(b"picture").hexdigest()
        stores.episodes.add(lease, new_episode(0), None)
        with pytest.raises(NotFoundError, match="not filmed"):
            stores.episodes.picture(run.id, 0, "video")
        with pytest.raises(NotFoundError):
            video.read(0, 1)

    def test_a_run_that_is_deleted_takes_its_videos_along(self, stores: Stores) -> None:
        run, lease = start(stores, kind=RunKind.ROLLOUT)
        stores.episodes.add(lease, new_episode(0, has_video=True), b"trajectory", b"video", b"picture")
        video = stores.episodes.picture(run.id, 0, "video")
        stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed")
        stores.runs.delete(run.id)
        with pytest.raises(NotFoundError):
            video.read(0, 1)

    def test_what_a_training_filmed_is_dropped_by_its_epoch_with_its_bytes(self, stores: Stores) -> None:
        run, lease = start(stores)
        films = [new_episode(epoch, epoch=epoch, moment="scheduled", has_video=True) for epoch in (0, 2, 4)]
        for film in films:
            stores.episodes.add(lease, film, None, b"video %d" % film.index, b"picture")
        second = stores.episodes.picture(run.id, 2, "video")
        stores.episodes.drop_films(lease, [2, 3])
        assert stores.episodes.list(run.id).data == [films[0], films[2]]
        with pytest.raises(NotFoundError):
            second.read(0, 1)
        assert stores.episodes.picture(run.id, 4, "thumbnail").read(0, 7) == b"picture"

    def test_an_episode_is_announced_in_the_event_log(self, stores: Stores) -> None:
        run, lease = start(stores, kind=RunKind.ROLLOUT)
        stores.episodes.add(lease, new_episode(3), None)
        event = stores.runs.events(run.id)[-1]
        assert event.type is EventType.EPISODE
        assert (event.data["index"], event.data["episode_return"]) == (3, 30.0)

    def test_a_return_that_is_not_finite_is_kept(self, stores: Stores) -> None:
        run, lease = start(stores, kind=RunKind.ROLLOUT)
        for index, value in enumerate((math.inf, -math.inf, math.nan)):
            stores.episodes.add(lease, new_episode(index, episode_return=value), None)
        returns = [episode.episode_return for episode in stores.episodes.list(run.id).data]
        assert returns[:2] == [math.inf, -math.inf]
        assert math.isnan(returns[2])

    def test_the_same_index_again_replaces_the_episode(self, stores: Stores) -> None:
        run, lease = start(stores, kind=RunKind.ROLLOUT)
        stores.episodes.add(lease, new_episode(0, length=1), b"old")
        stores.episodes.add(lease, new_episode(0, length=2), b"new")
        (episode,) = stores.episodes.list(run.id).data
        assert (episode.length, episode.has_trajectory) == (2, True)
        assert stores.episodes.trajectory(run.id, 0) == b"new"
        stores.episodes.add(lease, new_episode(0, length=3), b"new")
        assert stores.episodes.trajectory(run.id, 0) == b"new"

    def test_pages_come_by_index(self, stores: Stores) -> None:
        run, lease = start(stores, kind=RunKind.ROLLOUT)
        for index in (2, 0, 1):
            stores.episodes.add(lease, new_episode(index), None)
        first = stores.episodes.list(run.id, limit=2)
        second = stores.episodes.list(run.id, limit=2, cursor=first.next_cursor)
        assert [[episode.index for episode in page.data] for page in (first, second)] == [[0, 1], [2]]
        assert not second.has_more
        with pytest.raises(ValueError, match="cursor"):
            stores.episodes.list(run.id, cursor="nonsense")

    def test_one_episode_is_found_by_its_index(self, stores: Stores) -> None:
        run, lease = start(stores, kind=RunKind.ROLLOUT)
        stores.episodes.add(lease, new_episode(3), None)
        assert stores.episodes.get(run.id, 3) == new_episode(3)
        with pytest.raises(NotFoundError, match="no episode 2"):
            stores.episodes.get(run.id, 2)

    def test_a_missing_trajectory_says_why(self, stores: Stores) -> None:
        run, lease = start(stores, kind=RunKind.ROLLOUT)
        stores.episodes.add(lease, new_episode(0), None)
        with pytest.raises(NotFoundError, match="record=true"):
            stores.episodes.trajectory(run.id, 0)
        with pytest.raises(NotFoundError, match="record=true"):
            stores.episodes.picture(run.id, 0, "trajectory")
        with pytest.raises(NotFoundError, match="no episode 1"):
            stores.episodes.trajectory(run.id, 1)

    def test_a_stale_worker_stores_nothing(self, stores: Stores) -> None:
        run, lease = start(stores, kind=RunKind.ROLLOUT)
        stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed")
        with pytest.raises(StaleLeaseError):
            stores.episodes.add(lease, new_episode(0), b"late")
        assert stores.episodes.list(run.id).data == []

    def test_what_was_recorded_is_listed_by_index_with_its_digest_and_size(self, stores: Stores) -> None:
        run, lease = start(stores, kind=RunKind.ROLLOUT)
        for index, data in ((2, b"two"), (0, b"zero"), (1, None)):
            stores.episodes.add(lease, new_episode(index), data)
        expected = {0: (hashlib.sha256(b"zero").hexdigest(), 4), 2: (hashlib.sha256(b"two").hexdigest(), 3)}
        assert list(stores.episodes.recorded(run.id).items()) == list(expected.items())
        assert stores.episodes.recorded("run_none") == {}
