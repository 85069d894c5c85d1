"""Sessions over HTTP: numbered steps, retries, episodes, what ends them, and what they record."""

import os
import signal
import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from maze_core.agent import load_agent
from maze_core.rollout.recording import trajectory_from_bytes
from service.domain.errors import StoreUnavailableError
from service.domain.run import Lease, Run, RunState, StopReason
from service.metrics import ActionMetrics
from service.serving.child_process import ChildProcess
from service.serving.served import ServedAgent
from service.serving.sessions.episodes import Episodes
from service.serving.sessions.registry import EVICTABLE_S, Sessions
from service.settings import Settings
from service.store import Stores
from tests.contracts.builders import new_checkpoint, start
from tests.service.api.client import Client, running
from tests.service.api.submissions import errors, trained
from tests.service.serving.checkpoints import make_checkpoint

WITHOUT_TORCH = "tests.service.serving.child_without_torch"
OBSERVATION = [0.01, -0.02, 0.03, 0.04]
SESSIONS = "/v1/sessions"


@pytest.fixture
def source(client: Client, stores: Stores) -> tuple[Run, Lease]:
    """A training with one checkpoint of CartPole's spaces."""
    run, lease = trained(client, stores)
    put(stores, lease, 1)
    return run, lease


@pytest.fixture
def sessions(client: Client) -> Sessions:
    """Those of the application, under a clock that the test turns: ``sessions.clock.now += seconds``."""
    sessions: Any = client.app._app.sessions  # type: ignore[attr-defined]
    sessions.clock = SimpleNamespace(now=0.0)
    sessions._clock = lambda: sessions.clock.now
    return sessions


def put(stores: Stores, lease: Lease, epoch: int, bundle: bytes | None = None) -> str:
    """A new best checkpoint, of which there is one at a time; its id."""
    bundle = bundle or make_checkpoint(seed=epoch).to_bytes()
    facts = {"kind": "best", "is_best": True, "content_sha256": f"{epoch:064x}"}
    return stores.checkpoints.put(lease, new_checkpoint(epoch, **facts), bundle).id


def begun(client: Client, run: Run, **facts: Any) -> str:
    answer = client.post(SESSIONS, {"run": run.id, **facts})
    assert answer.status_code == 201, answer.text
    return f"{SESSIONS}/{answer.json()['id']}"


def step(client: Client, path: str, seq: int, observation: Any = OBSERVATION, **facts: Any) -> Any:
    return client.post(f"{path}/step", {"seq": seq, "observation": observation, **facts})


def observations(n: int, seed: int = 0) -> list[list[float]]:
    return (np.random.default_rng(seed).standard_normal((n, 4)) / 10).astype(np.float32).tolist()


def actions(client: Client, path: str, seen: list[list[float]]) -> list[Any]:
    answers = [step(client, path, seq, observation) for seq, observation in enumerate(seen)]
    return [answer.json()["action"] for answer in answers]


class TestSteps:
    def test_a_session_says_what_acts_and_acts_as_compute_action_does(
        self, client: Client, source: tuple[Run, Lease]
    ) -> None:
        run, _ = source
        made = client.post(SESSIONS, {"run": run.id})
        document = made.json()
        path = made.headers["location"]
        assert client.get(path).json() | {"expires_at": 0} == document | {"expires_at": 0}
        assert (document["run"], document["next_seq"], document["policy"]) == (run.id, 0, None)
        for seq, observation in enumerate(observations(5)):
            body = {"observation": observation, "checkpoint": document["checkpoint"]}
            stateless = client.post(f"/v1/runs/{run.id}/compute_action", body).json()
            assert step(client, path, seq, observation).json() == {
                **stateless,
                "seq": seq,
                "next_seq": seq + 1,
            }

    def test_the_same_step_again_gets_the_stored_answer_and_draws_nothing(
        self, client: Client, source: tuple[Run, Lease]
    ) -> None:
        seen = observations(12)
        once, retried = (begun(client, source[0], deterministic=False, seed=7) for _ in range(2))
        expected = [step(client, once, seq, observation).json() for seq, observation in enumerate(seen)]
        for seq, observation in enumerate(seen):
            answers = [step(client, retried, seq, observation).json() for _ in range(3)]
            assert answers == [expected[seq]] * 3
        assert {answer["action"] for answer in expected} == {0, 1}
        other = begun(client, source[0], deterministic=False, seed=8)
        assert actions(client, other, seen) != [answer["action"] for answer in expected]

    def test_another_content_or_another_number_is_a_conflict_that_moves_nothing(
        self, client: Client, source: tuple[Run, Lease]
    ) -> None:
        path = begun(client, source[0])
        assert step(client, path, 0).status_code == 200
        assert step(client, path, 1).status_code == 200
        for seq, facts in ((1, {"reward": 1.0}), (0, {}), (3, {}), (1, {"observation": [0.0] * 4})):
            answer = step(client, path, seq, **facts)
            assert (answer.status_code, answer.json()["code"]) == (409, "sequence_conflict")
            assert (answer.json()["expected"], answer.json()["last_seq"]) == (2, 1)
        assert step(client, path, 2).status_code == 200

    def test_a_step_that_is_refused_can_be_sent_right(
        self, client: Client, source: tuple[Run, Lease]
    ) -> None:
        path = begun(client, source[0])
        assert errors(step(client, path, 0, [1.0])) == {"/observation": "space_mismatch"}
        assert errors(step(client, path, -1)) == {"/seq": "invalid_value"}
        assert errors(client.post(f"{path}/step", {"seq": 0, "observation": OBSERVATION, "rewrad": 1})) == {
            "/rewrad": "unknown_field"
        }
        assert client.post_text(f"{path}/step", b'{"seq": 0, "observation": [NaN]}').status_code == 400
        assert client.get(f"{path}/step").status_code == 405
        assert step(client, path, 0).json()["next_seq"] == 1

    def test_of_two_clients_one_gets_each_step_and_the_other_is_told(
        self, client: Client, source: tuple[Run, Lease]
    ) -> None:
        path = begun(client, source[0])
        for seq in range(10):
            bodies = [{"seq": seq, "observation": [0.01 * (seq + who), 0.0, 0.0, 0.0]} for who in range(2)]
            answers = client.together(
                [{"method": "POST", "url": f"{path}/step", "json": body} for body in bodies]
            )
            assert sorted(answer.status_code for answer in answers) == [200, 409]
        same = {"method": "POST", "url": f"{path}/step", "json": {"seq": 10, "observation": OBSERVATION}}
        answers = client.together([same] * 8)
        assert [answer.json() for answer in answers] == [answers[0].json()] * 8
        assert client.get(path).json()["next_seq"] == 11

    def test_a_child_that_is_killed_under_a_step_is_told_and_the_same_step_again_is_right(
        self, client: Client, source: tuple[Run, Lease], sessions: Sessions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen, children = observations(4), []
        expected = actions(client, begun(client, source[0]), seen)

        async def load(checkpoint_id: str, bundle: bytes, metrics: ActionMetrics) -> ServedAgent:
            children.append(await ChildProcess.start(bundle, WITHOUT_TORCH))
            return ServedAgent(checkpoint_id, load_agent(bundle), metrics, child=children[-1])

        async def unload() -> None:
            sessions._agents.unload(session.version.checkpoint)

        monkeypatch.setattr(sessions._agents, "_load", load)
        path = begun(client, source[0])
        session = sessions._open[path.rpartition("/")[2]]
        client.run(unload())
        assert step(client, path, 0, seen[0]).json()["action"] == expected[0]
        pid = children[0]._process.pid

        def kill() -> None:
            while session.pending is None:
                time.sleep(0.001)
            os.kill(pid, signal.SIGKILL)

        os.kill(pid, signal.SIGSTOP)  # so that the step waits for it
        killer = threading.Thread(target=kill)
        killer.start()
        answer = step(client, path, 1, seen[1])
        killer.join()
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), answer.text
        assert client.get(path).json()["next_seq"] == 1
        again = [step(client, path, seq, seen[seq]).json()["action"] for seq in (1, 2, 3)]
        assert (again, len(children)) == (expected[1:], 2)

    def test_a_policy_with_a_state_acts_as_it_does_in_an_episode_of_its_own(
        self, client: Client, source: tuple[Run, Lease], stores: Stores, stacked: bytes
    ) -> None:
        run, lease = source
        put(stores, lease, 2, stacked)
        agent, path = load_agent(stacked), begun(client, run)
        for seed in range(2):
            state = None
            for seq, observation in enumerate(observations(6, seed)):
                action, state = agent.compute_action(observation, state=state)
                answers = [step(client, path, seq, observation).json() for _ in range(2)]
                assert [answer["action"] for answer in answers] == [action["action"]] * 2
            assert client.post(f"{path}/reset").json()["next_seq"] == 0


class TestEpisodes:
    def test_a_reset_with_a_seed_begins_the_stream_anew_and_one_without_goes_on_with_it(
        self, client: Client, source: tuple[Run, Lease]
    ) -> None:
        seen = observations(16)
        path = begun(client, source[0], deterministic=False, seed=3)
        first = actions(client, path, seen)
        assert client.post(f"{path}/reset").json()["episode"] == 1
        assert client.post(f"{path}/reset").json()["episode"] == 1
        assert actions(client, path, seen) != first
        client.post(f"{path}/reset", {"seed": 3})
        assert actions(client, path, seen) == first

    def test_an_episode_ends_with_its_last_observation_and_the_next_begins_at_0(
        self, client: Client, source: tuple[Run, Lease]
    ) -> None:
        path = begun(client, source[0])
        assert errors(step(client, path, 0, terminated=True)) == {"/terminated": "invalid_value"}
        actions(client, path, observations(3))
        for _ in range(2):
            answer = step(client, path, 3, reward=1.0, terminated=True).json()
            assert (answer["action"], answer["next_seq"]) == (None, 0)
            assert answer["ended"] == {"episode": 0, "length": 3, "recorded": None}
        assert step(client, path, 0).json()["next_seq"] == 1
        assert client.get(path).json()["episode"] == 1

    def test_an_alias_that_moves_changes_new_sessions_and_open_ones_when_they_are_pinned_anew(
        self, client: Client, stores: Stores, source: tuple[Run, Lease], sessions: Any
    ) -> None:
        run, lease = source
        client.post("/v1/policies", {"name": "walker"})
        for version in (1, 2):
            put(stores, lease, version)
            assert client.post("/v1/policies/walker/versions", {"run": run.id}).status_code == 201
        alias = "/v1/policies/walker/aliases/champion"
        client.request("PUT", alias, json={"version": 1})
        path = client.post(SESSIONS, {"policy": "walker@champion"}).headers["location"]
        first = client.get(path).json()
        client.request("PUT", alias, json={"version": 2}, headers={"if-match": '"1"'})
        assert step(client, path, 0).json()["checkpoint"] == first["checkpoint"]
        assert client.post(SESSIONS, {"policy": "walker@champion"}).json()["policy"] == "walker:2"
        assert client.post(f"{path}/reset").json()["policy"] == "walker:1"
        moved = client.post(f"{path}/reset", {"repin": True}).json()
        assert moved["policy"] == "walker:2"
        assert step(client, path, 0).json()["checkpoint"] == moved["checkpoint"] != first["checkpoint"]

    def test_steps_and_rewards_of_sessions_are_counted_for_the_version_that_acts(
        self, client: Client, stores: Stores, source: tuple[Run, Lease]
    ) -> None:
        run, lease = source
        client.post("/v1/policies", {"name": "walker"})
        for version in (1, 2):
            put(stores, lease, version)
            assert client.post("/v1/policies/walker/versions", {"run": run.id}).status_code == 201
        alias = "/v1/policies/walker/aliases/champion"
        client.request("PUT", alias, json={"version": 1})
        split = {"canary": {"version": 2, "weight": 0.5}}
        assert (
            client.request("PUT", f"{alias}/traffic", json=split, headers={"if-match": '"1"'}).status_code
            == 200
        )
        facts = {"policy": "walker@champion", "record": True}
        made = [client.post(SESSIONS, facts) for _ in range(24)]
        of = {
            name: [one for one in made if one.json()["policy"] == name] for name in ("walker:1", "walker:2")
        }
        assert all(of.values())  # each of them is a canary's by its id, half of all
        for name, reward in (("walker:1", 1.0), ("walker:2", 4.0)):
            path = of[name][0].headers["location"]
            for seq in range(3):
                for _ in range(2):  # the second one is the same step again
                    step(client, path, seq, **({"reward": reward} if seq else {}))
            client.post(f"{path}/feedback", {"seq": 1, "reward": 2 * reward})
            client.post(f"{path}/feedback", {"seq": 2, "reward": reward})
            assert step(client, path, 3, reward=4 * reward, terminated=True).status_code == 200
        versions = {one["role"]: one for one in client.get(f"{alias}/traffic").json()["versions"]}
        for role, reward in (("holder", 1.0), ("canary", 4.0)):
            assert (versions[role]["steps"], versions[role]["mean_reward"]) == (
                3,
                pytest.approx(7 / 3 * reward),
            )

    def test_a_session_keeps_its_checkpoint_though_the_run_makes_others_and_the_agent_is_evicted(
        self, client: Client, stores: Stores, source: tuple[Run, Lease], sessions: Any
    ) -> None:
        run, lease = source
        path = begun(client, run)
        pinned = client.get(path).json()["checkpoint"]
        expected = actions(client, path, observations(4))
        sessions._agents._capacity = 1
        for epoch in range(2, 12):
            put(stores, lease, epoch)
        begun(client, run)
        assert sessions._agents.loaded(pinned) is None
        client.post(f"{path}/reset")
        assert actions(client, path, observations(4)) == expected
        client.request("DELETE", path)
        put(stores, lease, 12)
        assert pinned not in [one.id for one in stores.checkpoints.list(run.id).data]


class TestEnds:
    def gone(self, client: Client, path: str, reason: str, last_seq: int | None) -> None:
        for answer in (
            client.get(path),
            step(client, path, 9),
            client.post(f"{path}/reset"),
            client.request("DELETE", path),
        ):
            assert (answer.status_code, answer.json()["code"]) == (410, "session_ended")
            assert (answer.json()["reason"], answer.json()["last_seq"]) == (reason, last_seq)

    def test_one_that_is_closed_or_expired_says_so_ever_after(
        self, client: Client, source: tuple[Run, Lease], sessions: Any
    ) -> None:
        closed, expired, used = (begun(client, source[0], ttl_s=10) for _ in range(3))
        actions(client, closed, observations(3))
        assert client.request("DELETE", closed).status_code == 204
        self.gone(client, closed, "closed", 2)
        step(client, expired, 0)
        sessions.clock.now += 6
        step(client, used, 0)
        sessions.clock.now += 6
        client.run(sessions.sweep())
        self.gone(client, expired, "expired", 0)
        assert step(client, used, 1).status_code == 200
        sessions.clock.now += 1800
        sessions._ended.clear()
        self.gone(client, expired, "expired", 0)
        assert client.get(f"{SESSIONS}/session_{'0' * 26}").status_code == 404

    def test_it_expires_at_the_moment_it_is_used_too_late_without_a_sweep(
        self, client: Client, source: tuple[Run, Lease], sessions: Any
    ) -> None:
        path = begun(client, source[0], ttl_s=10)
        sessions.clock.now += 10
        self.gone(client, path, "expired", None)

    def test_where_all_places_are_taken_the_idlest_goes_and_none_that_is_in_use(
        self, stores: Stores, sqlite_url: str
    ) -> None:
        with running(Settings(database_url=sqlite_url, auth=False, max_sessions=2), stores) as client:
            sessions: Any = client.app._app.sessions  # type: ignore[attr-defined]
            clock = SimpleNamespace(now=0.0)
            sessions._clock = lambda: clock.now
            run, lease = trained(client, stores)
            put(stores, lease, 1)
            first, second = begun(client, run), begun(client, run)
            answer = client.post(SESSIONS, {"run": run.id})
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            clock.now += EVICTABLE_S
            step(client, first, 0)
            third = begun(client, run)
            self.gone(client, second, "evicted", None)
            listed = client.get(SESSIONS).json()["data"]
            assert [f"{SESSIONS}/{one['id']}" for one in listed] == [third, first]

    def test_where_all_places_are_taken_the_project_with_the_most_makes_room_for_one_with_less(
        self, stores: Stores, sqlite_url: str
    ) -> None:
        stores.projects.put("other", {})
        with running(Settings(database_url=sqlite_url, auth=False, max_sessions=4), stores) as client:
            sessions: Any = client.app._app.sessions  # type: ignore[attr-defined]
            clock = SimpleNamespace(now=0.0)
            sessions._clock = lambda: clock.now
            runs = {}
            for project in ("default", "other"):
                run, lease = start(stores, project=project)
                put(stores, lease, 1)
                runs[project] = run.id

            def begin(project: str) -> Any:
                clock.now += 1
                headers = {"X-Maze-Project": project}
                return client.post(SESSIONS, {"run": runs[project]}, headers=headers)

            first, second, *_ = [begin("default").headers["location"] for _ in range(4)]
            step(client, first, 0)
            assert begin("default").status_code == 503
            assert [begin("other").status_code for _ in range(3)] == [201, 201, 503]
            self.gone(client, second, "evicted", None)
            assert client.get(first).status_code == 200
            assert sorted(one.project for one in sessions._open.values()) == ["default"] * 2 + ["other"] * 2

    def test_a_run_is_not_deleted_under_a_session(
        self, client: Client, stores: Stores, source: tuple[Run, Lease]
    ) -> None:
        run, lease = source
        path = begun(client, run)
        stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed")
        answer = client.request("DELETE", f"/v1/runs/{run.id}")
        assert answer.status_code == 409
        assert path.removeprefix(f"{SESSIONS}/") in answer.json()["detail"]
        client.request("DELETE", path)
        assert client.request("DELETE", f"/v1/runs/{run.id}").status_code == 204


class TestRestarts:
    def test_a_graceful_restart_goes_on_in_the_middle_of_an_episode_and_a_death_says_so(
        self, settings: Settings, stores: Stores, stacked: bytes
    ) -> None:
        seen = observations(8)
        with running(settings, stores) as client:
            run, lease = trained(client, stores)
            put(stores, lease, 1, stacked)
            facts = {"deterministic": False, "seed": 5}
            whole, cut = (begun(client, run, **facts, record=True) for _ in range(2))
            expected = actions(client, whole, seen)
            assert actions(client, cut, seen[:4]) == expected[:4]
        with running(settings, stores) as client:
            assert step(client, cut, 3, seen[3]).json()["action"] == expected[3]
            later = [step(client, cut, seq, seen[seq], reward=1.0).json() for seq in range(4, 8)]
            assert [answer["action"] for answer in later] == expected[4:]
            recording = client.get(cut).json()["recording"]
            died = client.app._app.sessions  # type: ignore[attr-defined]
            died._open.clear()  # as if it had no time to write anything down
        with running(settings, stores) as client:
            answer = step(client, cut, 8, seen[0])
            assert (answer.status_code, answer.json()["reason"]) == (410, "restarted")
            assert "POST /v1/sessions" in answer.json()["detail"]
            ended = stores.runs.get(recording)
            assert (ended.state, ended.reason) == (RunState.SUCCEEDED, "session_restarted")


class TestRecording:
    @pytest.fixture
    def path(self, client: Client, source: tuple[Run, Lease]) -> str:
        return begun(client, source[0], record=True, name="live", labels={"site": "a"})

    def recorded(self, client: Client, stores: Stores, path: str) -> Run:
        return stores.runs.get(client.get(path).json()["recording"])

    def test_episodes_are_stored_as_they_end_with_what_was_seen_done_and_paid(
        self, client: Client, stores: Stores, path: str
    ) -> None:
        run = self.recorded(client, stores, path)
        assert (run.state, run.name, run.labels) == (RunState.RUNNING, "live", {"site": "a"})
        seen = observations(4)
        acted = []
        for seq in range(3):
            facts = {"reward": float(seq)} if seq else {}
            acted.append(step(client, path, seq, seen[seq], **facts).json()["action"])
        assert step(client, path, 3, seen[3], reward=3.0, terminated=True).json()["ended"]["recorded"] == 0
        (info,) = stores.episodes.list(run.id).data
        assert (info.episode_return, info.length, info.terminated, info.truncated) == (6.0, 3, True, False)
        episode = trajectory_from_bytes(stores.episodes.trajectory(run.id, 0))
        (observed,), (done,) = episode.observations[0].values(), episode.actions[0].values()
        assert observed.tolist() == seen[:3]
        assert (done.tolist(), episode.rewards.tolist()) == (acted, [1.0, 2.0, 3.0])
        assert [values.tolist() for values in episode.final_observation.values()] == [seen[3]]
        assert client.get(f"/v1/runs/{run.id}/episodes/0").json()["trajectory"]["steps"][1]["reward"] == 2.0

    def test_a_reset_and_a_close_cut_the_open_episode_before_its_last_observation(
        self, client: Client, stores: Stores, path: str
    ) -> None:
        run = self.recorded(client, stores, path)
        actions(client, path, observations(5))
        client.post(f"{path}/reset")
        step(client, path, 0)
        client.post(f"{path}/reset")
        actions(client, path, observations(3))
        client.request("DELETE", path)
        facts = [(one.length, one.terminated, one.truncated) for one in stores.episodes.list(run.id).data]
        assert facts == [(4, False, True), (2, False, True)]

    def test_the_run_ends_with_the_session_and_says_the_mean_return_with_its_interval(
        self, client: Client, stores: Stores, path: str
    ) -> None:
        run = self.recorded(client, stores, path)
        for reward in (1.0, 2.0, 6.0):
            step(client, path, 0)
            step(client, path, 1, reward=reward, truncated=True)
        client.request("DELETE", path)
        ended = stores.runs.get(run.id)
        assert (ended.state, ended.reason) == (RunState.SUCCEEDED, "completed")
        assert ended.result is not None
        assert (ended.result["n_episodes"], ended.result["mean_return"]) == (3, 3.0)
        assert ended.result["ci95"] == pytest.approx([3 - 6.573, 3 + 6.573], abs=1e-3)

    def test_late_feedback_takes_the_place_of_a_reward_until_the_episode_is_stored(
        self, client: Client, stores: Stores, path: str
    ) -> None:
        run = self.recorded(client, stores, path)
        actions(client, path, observations(3))
        for seq, reward in ((0, 1.0), (2, 9.0), (0, 4.0)):
            assert client.post(f"{path}/feedback", {"seq": seq, "reward": reward}).status_code == 200
        assert errors(client.post(f"{path}/feedback", {"seq": 3, "reward": 1.0})) == {"/seq": "invalid_value"}
        step(client, path, 3, truncated=True)
        assert client.post(f"{path}/feedback", {"seq": 0, "reward": 1.0}).status_code == 422
        episode = trajectory_from_bytes(stores.episodes.trajectory(run.id, 0))
        assert episode.rewards.tolist() == [4.0, 0.0, 9.0]

    def test_an_end_that_cannot_be_stored_is_refused_and_the_same_step_ends_it_later(
        self, client: Client, stores: Stores, path: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = self.recorded(client, stores, path)
        actions(client, path, observations(3))
        with monkeypatch.context() as patched:

            def fail(*_: object) -> None:
                raise StoreUnavailableError("no")

            patched.setattr(stores.episodes, "add", fail)
            assert step(client, path, 3, terminated=True).status_code == 503
        assert step(client, path, 3, terminated=True).json()["ended"]["length"] == 3
        assert [one.length for one in stores.episodes.list(run.id).data] == [3]

    @pytest.mark.parametrize("reward", [1e39, -1e300])
    def test_a_reward_is_one_that_can_be_summed_up(
        self, client: Client, source: tuple[Run, Lease], reward: float
    ) -> None:
        path = begun(client, source[0], record=True)
        assert step(client, path, 0).status_code == 200
        feedback = client.post(f"{path}/feedback", {"seq": 0, "reward": reward})
        for answer in (step(client, path, 1, reward=reward), feedback):
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
        for seq in range(1, 4):
            assert step(client, path, seq, reward=1e38).status_code == 200
        assert step(client, path, 4, reward=1e38, terminated=True).json()["ended"]["recorded"] == 0

    def test_an_episode_that_cannot_be_kept_does_not_keep_its_session_and_run_open(
        self, client: Client, stores: Stores, source: tuple[Run, Lease], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = begun(client, source[0], record=True)
        run = client.get(path).json()["recording"]
        assert [step(client, path, seq).status_code for seq in range(3)] == [200] * 3

        def fail(*_: Any) -> None:
            raise OverflowError

        monkeypatch.setattr(Episodes, "_add", fail)
        assert client.request("DELETE", path).status_code == 204
        assert stores.runs.get(run).state is RunState.SUCCEEDED
        assert client.get(path).status_code == 410

    def test_a_behaviour_cloning_learns_from_what_a_session_recorded(
        self, client: Client, stores: Stores, path: str
    ) -> None:
        run = self.recorded(client, stores, path)
        actions(client, path, observations(5))
        client.request("DELETE", path)
        body: dict[str, Any] = {
            "algorithm": "bc",
            "overrides": {"env.name": "CartPole-v1", "dataset.run": run.id},
        }
        answer = client.post("/v1/train", body)
        assert answer.status_code == 202, answer.text

    def test_cancelling_the_run_closes_the_session(
        self, client: Client, stores: Stores, path: str, sessions: Any
    ) -> None:
        run = self.recorded(client, stores, path)
        stores.runs.request_stop(run.id, StopReason.CANCEL)
        client.run(sessions.sweep())
        assert client.get(path).status_code == 410
        assert stores.runs.get(run.id).state is RunState.CANCELLED
        assert client.post(f"/v1/runs/{run.id}/retry").status_code == 409

    def test_a_very_long_episode_is_stored_in_parts_of_which_none_is_lost(
        self, client: Client, stores: Stores, path: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("service.serving.sessions.episodes.MAX_RECORDED_BYTES", 16 * 60)
        run = self.recorded(client, stores, path)
        seen = observations(10)
        for seq, observation in enumerate(seen):
            assert step(client, path, seq, observation, reward=float(seq)).status_code == 200
        step(client, path, 10, reward=10.0, terminated=True)
        infos = stores.episodes.list(run.id).data
        assert [info.terminated for info in infos] == [False] * (len(infos) - 1) + [True]
        parts = [trajectory_from_bytes(stores.episodes.trajectory(run.id, info.index)) for info in infos]
        assert len(parts) > 1
        assert [row for part in parts for row in next(iter(part.observations[0].values())).tolist()] == seen
        assert [reward for part in parts for reward in part.rewards.tolist()] == [*map(float, range(1, 11))]
