"""What a bundle may be is not what it says: strange ones are refused by name, and none is believed."""

import contextlib
import copy
import random
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest

from maze_core import RunContext
from maze_core.checkpoint import Checkpoint
from maze_core.errors import CheckpointError, InvalidSpecificationError, MazeError
from service.domain.run import RunKind
from service.worker import frames
from service.worker.child import Rules
from service.worker.imports import MOST_METRICS, import_checkpoint

STRANGE = (None, -1, 2**70, "x", "os.system", "../x", [], {}, [1] * 9, {"_target_": "os.system"}, True, 1e308)
START = frames.Start(kind=RunKind.IMPORT, run_id="run_x", attempt=1, tree={})


class Reported:
    """The reporter of a run, of which only the checkpoint is looked at."""

    checkpoint_facts: dict[str, Any] | None = None

    def phase(self, name: str) -> None:
        pass

    def checkpoint(self, checkpoint: Checkpoint, **facts: Any) -> None:
        self.checkpoint_facts = facts


def imported(checkpoint: Checkpoint) -> dict[str, Any]:
    reported = Reported()
    start = msgspec.structs.replace(START, agent=checkpoint.to_bytes())
    import_checkpoint(start, reported, Rules())  # type: ignore[arg-type]
    assert reported.checkpoint_facts is not None
    return reported.checkpoint_facts


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("trained")
    overrides = {"env.name": "CartPole-v1", "algorithm.n_epochs": 1, "algorithm.epoch_length": 1}
    with RunContext(folder / "run", overrides=overrides, seed=1, silent=True) as context:
        context.train()
    return Checkpoint.read(folder / "run/checkpoints/last.ckpt")


def places(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if here:
        yield here
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        yield from places(child, (*here, key))


def test_a_sound_checkpoint_brings_its_configuration_and_metrics(checkpoint: Checkpoint) -> None:
    facts = imported(checkpoint)
    assert facts["imported"].config["env"]["name"] == "CartPole-v1"
    assert facts["imported"].seed == 1
    assert (facts["epoch"], facts["is_best"], facts["is_last"]) == (1, True, True)
    assert facts["metrics"].keys() == checkpoint.provenance["metrics"].keys()


def test_what_a_bundle_says_of_its_metrics_is_taken_where_it_is_a_number(checkpoint: Checkpoint) -> None:
    said = {"a": 1.5, "b": "x", "c": None, "d": [1], "e": 10**400} | {
        str(number): 1.0 for number in range(2 * MOST_METRICS)
    }
    for metrics, expected in ((said, MOST_METRICS), ("x", 0), (None, 0)):
        provenance = {**checkpoint.provenance, "metrics": metrics}
        other = Checkpoint(identity=checkpoint.identity, tensors=checkpoint.tensors, provenance=provenance)
        taken = imported(other)["metrics"]
        assert len(taken) == expected
        assert all(isinstance(value, float) for value in taken.values())


def changed(checkpoint: Checkpoint, tensors: dict[str, Any] | None = None, **identity: Any) -> Checkpoint:
    tensors = dict(checkpoint.tensors) if tensors is None else tensors
    return Checkpoint(identity={**copy.deepcopy(checkpoint.identity), **identity}, tensors=tensors)


@pytest.mark.parametrize(
    "counters", [{"epoch": 2**31 - 1, "env_steps": 1}, {"epoch": 1, "env_steps": 2**63 - 1}]
)
def test_counters_from_which_no_run_could_go_on_are_refused(
    checkpoint: Checkpoint, counters: dict[str, int]
) -> None:
    with pytest.raises(CheckpointError, match="came further than"):
        imported(changed(checkpoint, counters={**checkpoint.identity["counters"], **counters}))


def test_a_bundle_that_recorded_nothing_is_refused(checkpoint: Checkpoint) -> None:
    tensors = {name: array for name, array in checkpoint.tensors.items() if not name.startswith("recorded/")}
    with pytest.raises(CheckpointError, match="no recorded observations"):
        imported(changed(checkpoint, tensors))
    with pytest.raises(CheckpointError, match="have no rows"):
        imported(
            changed(
                checkpoint,
                {
                    name: array[:0] if name.startswith("recorded/") else array
                    for name, array in checkpoint.tensors.items()
                },
            )
        )
    actions = [name for name in checkpoint.tensors if name.startswith("recorded/0/action")]
    with pytest.raises(CheckpointError, match="does not act here as it did"):
        imported(
            changed(
                checkpoint, {name: array for name, array in checkpoint.tensors.items() if name not in actions}
            )
        )


def test_a_bundle_of_another_environment_than_its_policy_s_is_refused(checkpoint: Checkpoint) -> None:
    config = copy.deepcopy(checkpoint.identity["config"])
    config["env"]["name"] = "Acrobot-v1"
    with pytest.raises(InvalidSpecificationError, match="other spaces than the policy was trained in"):
        imported(changed(checkpoint, config=config))


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 8))]
)
def test_a_strange_bundle_is_imported_or_refused_by_name(checkpoint: Checkpoint, seed: int) -> None:
    rng = random.Random(seed)
    everywhere = list(places(checkpoint.identity))
    for _ in range(25):
        identity, tensors = copy.deepcopy(checkpoint.identity), dict(checkpoint.tensors)
        *way, last = rng.choice(everywhere)
        node: Any = identity
        for key in way:
            node = node[key]
        node[last] = rng.choice(STRANGE)
        if rng.random() < 0.2:
            name = rng.choice(sorted(tensors))
            tensors[name] = np.zeros(1, tensors[name].dtype)
        with contextlib.suppress(MazeError):
            imported(Checkpoint(identity=identity, tensors=tensors, provenance={}))
