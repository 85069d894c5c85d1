"""The client against a real service: one life of a run, and a service that is restarted under those who follow it."""

import asyncio
import inspect

import httpx
import numpy as np
import pytest

from maze_client import (
    AsyncClient,
    ChangedError,
    Client,
    ConflictError,
    InvalidRequestError,
    MazeClientError,
    NotFoundError,
    WaitTimeout,
)
from maze_client.answers import Origin
from tests.acceptance.server import free_port, serving

SPEC = {
    "algorithm": "ppo",
    "overrides": {"env.name": "CartPole-v1", "algorithm.epoch_length": 2, "algorithm.checkpoint_every": 2},
    "seed": 3,
    "labels": {"team": "a"},
}
OBSERVATION = np.array([0.1, 0.2, -0.1, 0.3], dtype=np.float32)


async def now(answer):
    """The answer of either client: what a coroutine gives, a list of what is iterated over, or the thing itself."""
    if inspect.isawaitable(answer):
        return await answer
    if hasattr(answer, "__anext__"):
        return [item async for item in answer]
    return list(answer) if hasattr(answer, "__next__") else answer


def run_with(kind, server, story):
    async def told():
        client = kind(f"http://127.0.0.1:{server.port}")
        try:
            await story(client)
        finally:
            await now(client.close())

    asyncio.run(told())


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_sweep_is_previewed_run_steered_asked_told_and_deleted(server, kind):
    run_with(kind, server, sweeping)


async def sweeping(client):
    overrides = {**SPEC["overrides"], "algorithm.lr": [0.001, 0.01]}
    grid = {**SPEC, "overrides": overrides, "seed": [1, 2], "n_epochs": 1, "name": "grid"}
    preview = await now(client.preview_sweep(**grid))
    sweep = await now(client.sweep(**grid))
    assert sweep.n_jobs == preview.n_jobs == 4
    for verb, state in (("pause", "paused"), ("resume", "running")):
        assert await now(getattr(sweep, verb)()) is sweep
        assert sweep.state == state
    with pytest.raises(WaitTimeout, match="it goes on"):
        await now(sweep.wait(timeout=0))
    assert await now(sweep.wait()) is sweep
    assert (sweep.state, sweep.counts) == ("succeeded", {"succeeded": 4})
    runs = await now(sweep.runs())
    made = [await now(client.run(one.run)) for one in runs]
    assert [one.config_sha256 for one in preview.jobs] == [run.config_sha256 for run in made]
    assert {run.id for run in await now(client.runs(sweep=sweep.id))} == {run.id for run in made}
    assert {run.sweep for run in made} == {sweep.id}
    best = await now(sweep.best_trial())
    assert best == sweep.best
    assert best.value == max((runs[0].value + runs[2].value) / 2, (runs[1].value + runs[3].value) / 2)
    assert (await now(client.get_sweep(sweep.id))).best == best
    assert sweep.id in {one.id for one in await now(client.sweeps(state="succeeded"))}
    with pytest.raises(ConflictError, match="it has ended"):
        await now(sweep.cancel())
    await now(sweep.delete())
    with pytest.raises(NotFoundError):
        await now(sweep.refresh())

    search = {"space": {"algorithm.lr": {"low": 0.001, "high": 0.1}}, "sampler": "random", "n_trials": 4}
    asked = await now(client.sweep(search=search, ask_tell=True, seed=1))
    for trial in await now(asked.ask(2)):
        await now(asked.tell(trial.trial, trial.choices["algorithm.lr"]))
    (own,) = await now(asked.ask(values={"algorithm.lr": 0.1}))
    await now(asked.tell(own.trial, state="failed"))
    assert asked.counts == {"succeeded": 2, "failed": 1}
    assert (await now(asked.importance())).importance == {"algorithm.lr": 1.0}
    assert (await now(asked.stop())).state == "succeeded"


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_run_is_trained_looked_at_continued_forked_and_deleted(server, kind):
    run_with(kind, server, life)


async def life(client):
    seen = []
    tried = await now((await now(client.smoke(**SPEC, n_epochs=4))).wait())
    assert (tried.kind, tried.result["n_epochs"]) == ("smoke", 4)
    run = await now(client.train(**SPEC, n_epochs=4, name="first"))
    assert run.config_sha256 == tried.config_sha256
    assert await now(run.wait(progress=seen.append)) is run
    assert (run.state, run.progress.epoch, run.seed, run.name) == ("succeeded", 4, 3, "first")
    assert seen[-1].is_ended
    ends = client.events(after=0, types=["end"])
    while (event := await now(anext(ends) if hasattr(ends, "__anext__") else next(ends))).run != run.id:
        pass
    assert (event.type, event.data["state"]) == ("end", "succeeded")
    hook = await now(client.webhooks.create("https://hooks.example/x", ["run.failed"]))
    assert (hook.secret.startswith("whsec_"), hook.types) == (True, ["run.failed"])
    assert [(each.id, each.secret) for each in await now(client.webhooks.list())] == [(hook.id, None)]
    sent = await now(client.webhooks.test(hook.id))
    assert [each.id for each in await now(client.webhooks.deliveries(hook.id))] == [sent.id]
    off = await now(client.webhooks.edit(hook.id, is_enabled=False))
    assert off.disabled_at is not None
    on = await now(client.webhooks.edit(hook.id, is_enabled=True, types=["run.succeeded"]))
    assert (on.disabled_at, on.types) == (None, ["run.succeeded"])
    await now(client.webhooks.delete(hook.id))
    metrics = await now(run.metrics(names=["eval/mean_return"]))
    assert [point.epoch for point in metrics] == [1, 2, 3, 4]
    assert max(point.value for point in metrics) == run.best.value
    assert {found.epoch for found in await now(run.checkpoints())} == {2, 4}
    assert [found.type for found in await now(run.events())][-1] == "end"
    assert isinstance(await now(run.logs(follow=True)), list)

    action = await now(run.compute_action(OBSERVATION))
    assert await now(run.compute_actions([OBSERVATION, OBSERVATION])) == [action, action]
    assert await now(run.compute_action(OBSERVATION, state=None)) == (action, None)
    assert await now(run.compute_actions([OBSERVATION] * 2, states=None)) == ([action] * 2, [None] * 2)
    told = await now(run.explain_action(OBSERVATION))
    assert told["action"] == action
    assert sum(told["distribution"]["action"]["probabilities"]) == pytest.approx(1.0)
    asked = {"return_": ["value"], "top_k": 2, "timing": True}
    told = await now(run.explain_action(OBSERVATION, **asked))
    assert told.keys() == {"action", "value", "candidates", "timing_us", "batch_size"}
    assert (told["action"], len(told["candidates"])) == (action, 2)
    good, bad = await now(run.explain_actions([OBSERVATION, [0.0]], return_=[]))
    assert (good, bad["problem"]["errors"][0]["pointer"]) == ({"action": action}, "/observations/1")
    drawn = [await now(run.act(OBSERVATION, deterministic=False, seed=7)) for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert action in (0, 1)

    further = await now(run.continue_(n_epochs=2))
    assert (await now(further.wait())).parent_run == run.id
    fork = await now((await now(run.fork(overrides={"algorithm.lr": 1e-4}))).wait())
    assert (fork.state, fork.config_sha256 == run.config_sha256) == ("succeeded", False)
    assert (await now(fork.config()))["algorithm"]["lr"] == 1e-4

    evaluation = await now(client.evaluate(run=run, n_episodes=2, seed=1))
    assert len((await now(evaluation.wait())).result["returns"]) == 2
    rollout = await now((await now(client.rollout(run=run, n_episodes=2))).wait())
    assert [episode.index for episode in await now(rollout.episodes())] == [0, 1]
    assert (await now(rollout.episode(1))).trajectory["steps"]

    await now(run.edit(name="renamed", labels={"team": None, "kept": "yes"}, notes="a note"))
    assert (run.name, run.labels, run.notes) == ("renamed", {"kept": "yes"}, "a note")
    assert [found.id for found in await now(client.runs(labels={"kept": "yes"}, kind="train"))] == [run.id]
    await now(run.edit(labels={"kept": None}))
    await now(fork.delete())
    with pytest.raises(NotFoundError):
        await now(fork.refresh())


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_run_that_was_paused_and_resumed_ends_as_one_that_was_not(server, kind):
    async def story(client):
        undisturbed, run = [await now(client.train(**SPEC, n_epochs=8)) for _ in range(2)]
        await now(run.pause())
        while run.state != "paused":
            await asyncio.sleep(0.05)
            await now(run.refresh())
        await now(run.resume())
        ends = [await now(each.wait(progress=False)) for each in (undisturbed, run)]
        assert ends[0].result["content_sha256"] == ends[1].result["content_sha256"]
        with pytest.raises(ConflictError, match="only a paused run can be resumed"):
            await now(run.resume())

    run_with(kind, server, story)


def test_a_cancelled_run_is_tried_again(server):
    with Client(f"127.0.0.1:{server.port}") as client:
        run = client.train(**SPEC, n_epochs=100_000).cancel().wait()
        assert (run.state, run.reason) == ("cancelled", "user_cancel")
        again = run.retry(name="again")
        assert (again.parent_run, again.name) == (run.id, "again")
        again.cancel().wait()


def test_a_mistake_is_told_in_full(server):
    with Client(f"127.0.0.1:{server.port}") as client:
        with pytest.raises(InvalidRequestError) as raised:
            client.train(algorithm="pp0", overrides={"env.nam": "CartPole-v1"})
        assert {mistake.pointer for mistake in raised.value.errors} == {"/algorithm", "/overrides/env.nam"}
        assert "/algorithm: There is no algorithm module 'pp0'. Did you mean 'ppo'?" in str(raised.value)
        assert "HTTP 422" in str(raised.value)


def test_what_can_be_asked_without_a_run(server):
    with Client(f"127.0.0.1:{server.port}") as client:
        assert client.health().is_ready
        composed = client.compose(**SPEC)
        assert (composed.seed, composed.config["env"]["name"]) == (3, "CartPole-v1")
        ids = {found.id: found for found in client.environments(available=True)}
        assert ids["CartPole-v1"].is_trainable is not False
        (worker,), status = client.workers(), client.status()
        assert worker.versions["maze-service"] == status.version
        assert (status.n_workers, status.slots["total"]) == (1, worker.n_slots)
        assert {kind.kind: kind.queued for kind in status.queue}["train"] == 0
        assert status.database["size_bytes"] > 0


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_the_configuration_is_looked_around_in(server, kind):
    async def story(client):
        groups = await now(client.config_groups())
        assert "ppo" in groups["algorithm"]
        assert (await now(client.config_module("algorithm", "ppo"))).config["gamma"] == 0.99
        schema = await now(client.config_schema("algorithm", "ppo"))
        assert schema["properties"]["gamma"]["maximum"] == 1.0
        assert (await now(client.config_schema(mode="rollout")))["required"] == ["policy"]
        composed = await now(client.compose(**SPEC, provenance=True))
        assert composed.provenance["env.name"] == Origin(source="override", name="env.name")
        spaces = await now(client.environment("CartPole-v1"))
        assert (spaces.action_space["n"], spaces.max_episode_steps) == (2, 500)

    run_with(kind, server, story)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_runs_are_submitted_by_id_compared_and_changed_together(server, kind):
    async def story(client):
        run_id = f"run_mine{kind.__name__.lower()}"
        long = {**SPEC, "labels": {"bulk": kind.__name__}, "n_epochs": 100_000}
        run, same = [await now(client.put(run_id, **long)) for _ in range(2)]
        assert (run.id, same.id, run.created_at) == (run_id, run_id, same.created_at)
        with pytest.raises(ConflictError, match="another body"):
            await now(client.put(run_id, **SPEC))
        other = await now(client.train(**long, priority=-1))
        assert (await now(run.provenance()))["algorithm.n_epochs"].name == "n_epochs"
        assert (await now(client.diff(run, other))).data == []
        changed = await now(client.diff(run.id, {"run": run, "overrides": {"algorithm.lr": 0.5}}))
        assert [(one.key, one.kind, one.right) for one in changed.data] == [("algorithm.lr", "changed", 0.5)]
        await now(run.edit(notes="one", if_revision=run.revision))
        with pytest.raises(ChangedError):
            await now(run.edit(notes="two", if_revision=run.revision - 1))
        done = await now(client.bulk("cancel", labels={"bulk": kind.__name__}))
        assert {one.id for one in done} == {run.id, other.id}
        assert not any(one.error for one in done)
        await now(run.wait())

    run_with(kind, server, story)


def test_events_and_waits_go_on_through_a_restart_of_the_service(tmp_path):
    port = free_port()
    with asyncio.Runner() as loop:
        ours, theirs = Client(f"127.0.0.1:{port}"), AsyncClient(f"127.0.0.1:{port}")
        with serving(tmp_path, port):
            run = ours.train(**SPEC, n_epochs=100_000)
            same = loop.run(theirs.run(run.id))
            waiting = loop.get_loop().create_task(same.wait())
            events, async_events = run.events(), same.events()
            seen = [next(events) for _ in range(12)]
            seen_async = loop.run(taken(async_events, 12))
        with serving(tmp_path, port):
            while sum(is_start(event) for event in seen) < 2:
                seen.append(next(events))
            run.cancel()
            seen += events
            seen_async += loop.run(taken(async_events))
            assert loop.run(now(waiting)) is same
        loop.run(theirs.close())
        ours.close()
    assert [event.seq for event in seen] == list(range(1, len(seen) + 1))
    assert seen_async == seen
    assert (seen[-1].type, same.state) == ("end", "cancelled")


def is_start(event):
    return event.type == "state" and event.data["state"] == "running"


async def taken(items, n=None):
    """The first ``n`` of them, or all that are left."""
    found = []
    async for item in items:
        found.append(item)
        if len(found) == n:
            break
    return found


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_policy_is_taken_away_as_a_file_and_brought_in(server, tmp_path, kind):
    async def story(client):
        run = await now((await now(client.train(**SPEC, n_epochs=2))).wait())
        (tmp_path / "policies").mkdir(exist_ok=True)
        path = await now(run.download(tmp_path / "policies", checkpoint="last"))
        assert path.name.startswith("ckpt_")
        assert [each.name for each in path.parent.iterdir()] == [path.name]
        brought = await now((await now(client.import_checkpoint(path, name="b"))).wait())
        assert (brought.kind, brought.name, brought.state) == ("import", "b", "succeeded")
        assert brought.result["content_sha256"] == run.result["content_sha256"]
        again = await now(brought.download(tmp_path / "again.ckpt"))
        assert again.read_bytes() == path.read_bytes()
        path.unlink()
        with pytest.raises(MazeClientError, match=r"no checkpoint 'epoch:9'; it has epoch:2"):
            await now(run.download(tmp_path, checkpoint="epoch:9"))

    run_with(kind, server, story)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_an_episode_is_filmed_and_played_once_more(server, tmp_path, kind):
    pytest.importorskip("imageio_ffmpeg", reason="the video extra is not installed")

    async def story(client):
        spec = {"policy": "random_policy", "overrides": {"env.name": "CartPole-v1"}, "n_episodes": 2}
        rollout = await now((await now(client.rollout(**spec, seed=1, videos=1))).wait())
        assert [each.has_video for each in await now(rollout.episodes())] == [True, False]
        path = await now(rollout.download_video(0, tmp_path / "a.mp4"))
        assert path.read_bytes()[4:8] == b"ftyp"
        with pytest.raises(NotFoundError, match="not filmed"):
            await now(rollout.download_video(1, tmp_path / "b.mp4"))
        for step, said in ((None, "n_steps"), (2, "recorded")):
            arguments = {} if step is None else {"step": step}
            replay = await now((await now(rollout.replay(1, **arguments))).wait())
            assert (replay.kind, replay.parent_run, replay.result["equal"]) == ("replay", rollout.id, True)
            assert said in replay.result

    run_with(kind, server, story)


class LosesAnswers(httpx.HTTPTransport):
    """The service does what it is asked, and of every change the first answer is lost."""

    def __init__(self):
        self._lost = set()
        super().__init__()

    def handle_request(self, request):
        response = super().handle_request(request)
        change = request.method, request.url.path, request.content
        if request.method == "GET" or change in self._lost:
            return response
        self._lost.add(change)
        response.close()
        raise httpx.ReadError("the answer was lost", request=request)


def test_every_change_whose_answer_is_lost_is_made_once(server):
    with Client(f"127.0.0.1:{server.port}", transport=LosesAnswers()) as client:
        search = {"space": {"algorithm.lr": {"low": 0.001, "high": 0.1}}, "sampler": "random", "n_trials": 4}
        sweep = client.sweep(search=search, ask_tell=True, seed=1)
        trials = [*sweep.ask(3), *sweep.ask(1)]
        assert [trial.trial for trial in trials] == [0, 1, 2, 3]
        assert sweep.tell(0, 1.0).counts == {"asked": 3, "succeeded": 1}
        assert sweep.cancel().is_ended
        hook = client.webhooks.create("https://hooks.example/lost")
        assert [each.id for each in client.webhooks.list() if each.url == hook.url] == [hook.id]
        client.webhooks.delete(hook.id)

        run, other = (client.train(**{**SPEC, "labels": {"lost": "yes"}}, n_epochs=100_000) for _ in range(2))
        revision = run.revision
        assert run.edit(notes="mine", labels={"a": "b"}, if_revision=revision).revision == revision + 1
        with pytest.raises(ChangedError):
            run.edit(notes="theirs", if_revision=revision)
        assert run.cancel().wait().state == "cancelled"
        (changed,) = client.bulk("cancel", ids=[other.id])
        assert changed.error is None
        other.wait()
        (labelled,) = client.bulk("label", ids=[other.id], new_labels={"kept": "no", "gone": None})
        assert labelled.error is None
        assert other.refresh().labels == {"lost": "yes", "kept": "no"}
        assert other.request()["n_epochs"] == 100_000
        assert [each.error for each in client.bulk("delete", ids=[run.id, other.id])] == [None, None]
        assert list(client.runs(labels={"lost": "yes"})) == []
