"""Uses the client that openapi-python-client generated: trains, waits, lists by label, cancels, acts, is refused."""

import sys

from maze_service_client import Client
from maze_service_client.api.config import list_groups
from maze_service_client.api.runs import cancel_run, compute_action, get_run_config, list_events, list_runs
from maze_service_client.api.service import get_prometheus_metrics
from maze_service_client.api.submit import evaluate, train
from maze_service_client.models import ActionRequest, EvaluateRequest, ProblemOut, RunOut, TrainRequest

SPEC = {
    "algorithm": "ppo",
    "configuration": "test",
    "overrides": {"env.name": "CartPole-v1"},
    "labels": {"by": "python"},
}

with Client(sys.argv[1], timeout=300) as client:
    run = train.sync(client=client, body=TrainRequest.from_dict(SPEC), prefer="wait=240")
    assert isinstance(run, RunOut), run
    assert run.state == "succeeded", run
    score = evaluate.sync(client=client, body=EvaluateRequest(run=run.id, n_episodes=2), prefer="wait=240")
    assert isinstance(score, RunOut), score
    assert score.state == "succeeded", score
    assert score.result["mean_return"] >= 1

    page = list_runs.sync(client=client, label=["by=python"], limit=5)
    assert [found.id for found in page.data] == [run.id], page
    assert list_runs.sync(client=client, label=["by=nobody"]).data == []

    long = train.sync(client=client, body=TrainRequest.from_dict({**SPEC, "n_epochs": 100_000}))
    waiting = train.sync(client=client, body=TrainRequest.from_dict({**SPEC, "n_epochs": 100_000}))
    for cancelled in (waiting, long):
        answer = cancel_run.sync(cancelled.id, client=client)
        assert isinstance(answer, RunOut), answer

    one = compute_action.sync(run.id, client=client, body=ActionRequest(observation=[0.0, 0.0, 0.0, 0.0]))
    assert one.action in (0, 1), one
    many = compute_action.sync(
        run.id, client=client, body=ActionRequest(observations=[[0.0] * 4] * 2, deterministic=False, seed=1)
    )
    assert len(many.actions) == 2, many

    wrong = train.sync(client=client, body=TrainRequest(algorithm="pppo"))
    assert isinstance(wrong, ProblemOut), wrong
    assert wrong.errors[0].did_you_mean == "ppo"
    assert list_events.sync(run.id, client=client).data[-1].type_ == "end"
    assert "maze_runs" in get_prometheus_metrics.sync(client=client)
    assert get_run_config.sync(run.id, client=client).config_sha256 == run.config_sha256
    assert list_groups.sync(client=client).data
