"""A checkpoint edited by hand is refused before anything that it names is imported, by the API and by a child."""

import sys
from typing import Any

import pytest

from maze_core.checkpoint import Checkpoint
from maze_core.config import compose_run
from maze_core.config.trust import trust_policy
from maze_core.errors import CheckpointError
from service.trust import check_checkpoint

EVIL = "this.s"


def checkpoint_of(**changes: Any) -> Checkpoint:
    tree = compose_run(seed=1, wrappers="vector_obs").identity()
    return Checkpoint(identity={"config": {**tree, **changes}}, tensors={})


def test_what_the_library_writes_is_taken() -> None:
    check_checkpoint(checkpoint_of(), trust_policy())


@pytest.mark.parametrize(
    "changes",
    [
        {"wrappers": [{"_target_": EVIL}]},
        {"env": {"_target_": EVIL}},
        {"model": {"_target_": "maze_core.models.config.CustomModelConfig", "policy": {"_target_": EVIL}}},
        {"algorithm": {"deep": [[{"_target_": EVIL}]]}},
        {"env": {"_opaque_": "x"}},
    ],
)
def test_a_name_that_is_not_on_the_list_is_refused_and_never_imported(changes: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="not allowed here"):
        check_checkpoint(checkpoint_of(**changes), trust_policy())
    assert "this" not in sys.modules


def test_what_the_operator_adds_is_taken() -> None:
    check_checkpoint(checkpoint_of(wrappers=[{"_target_": EVIL}]), trust_policy([EVIL]))


@pytest.mark.parametrize("identity", [{}, {"config": None}, {"config": []}])
def test_a_checkpoint_without_a_configuration_is_refused(identity: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="no configuration"):
        check_checkpoint(Checkpoint(identity=identity, tensors={}), trust_policy())
