"""A served agent as a model of the Open Inference Protocol: named tensors in, named tensors out.

Inputs are the leaves of the observation, ``obs`` where there is one and ``obs.NAME`` of several, and masks as
``action_mask`` (``action_mask.HEAD``), which allow everything where they are left out. Outputs are ``action``
(``action.HEAD``), and on request ``log_prob`` and ``value``. The first axis of every tensor is the batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from gymnasium import Space

from maze_core.data.flat_space import SpaceReader
from maze_core.errors import SpaceMismatchError
from maze_core.notices import Notices
from maze_core.types import JSON, Array, mask_name
from service.problems import Problem, pointer_to, suggestion
from service.serving.batching import Job, Reply
from service.serving.observations import MAX_ROWS, ObservationReader
from service.serving.tensors import InferRequest, datatype_of

TOLD = ("log_prob", "value")
"""Outputs that are computed on request alone."""
_MODELS: "WeakKeyDictionary[ObservationReader, Model]" = WeakKeyDictionary()


@dataclass(frozen=True)
class Tensor:
    """An input or output of a model."""

    name: str
    leaf: str
    """Of the space."""
    datatype: str
    shape: tuple[int, ...]
    """Without the batch."""
    is_mask: bool = False


class Model:
    """What one actor of an agent takes and gives; its reader keeps it, and not the other way round."""

    def __init__(self, reader: ObservationReader) -> None:
        """Name its tensors."""
        heads = list(reader.action_space.spaces)
        masks = {mask_name(head): head for head in heads}
        seen = [name for name in reader.space.spaces if name not in masks]
        inputs = []
        for leaf, space in reader.space.spaces.items():
            is_mask = leaf in masks
            name = _named("action_mask", masks[leaf], heads) if is_mask else _named("obs", leaf, seen)
            inputs.append(_tensor(name, leaf, space, is_mask=is_mask))
        self.inputs: Sequence[Tensor] = inputs
        self.outputs = [
            _tensor(_named("action", head, heads), head, reader.action_space[head]) for head in heads
        ]
        self._actions = SpaceReader(reader.action_space, "action", Notices())

    @classmethod
    def of(cls, reader: ObservationReader) -> "Model":
        """The model of a reader, which is made once."""
        model = _MODELS.get(reader)
        if model is None:
            model = _MODELS[reader] = cls(reader)
        return model

    def job(
        self, reader: ObservationReader, request: InferRequest, tensors: Mapping[str, Array], reply: Reply
    ) -> Job:
        """The request with its observations checked by the reader.

        Raises:
            Problem: 422, a tensor is unknown, missing, of another batch, or does not fit its space.
        """
        places = {tensor.name: pointer_to("inputs", i) for i, tensor in enumerate(request.inputs)}
        known = {tensor.name: tensor for tensor in self.inputs}
        if unknown := next((name for name in places if name not in known), None):
            message = f"This model has no input {unknown[:64]!r}: it has {', '.join(known)}."
            raise Problem.at(
                places[unknown] + "/name", "unknown_input", message, **suggestion(unknown[:64], known)
            )
        if missing := [one.name for one in self.inputs if not (one.name in places or one.is_mask)]:
            raise Problem.at("/inputs", "missing_field", f"The input {', '.join(missing)} is missing.")
        arrays = {}
        n_rows = len(next(iter(tensors.values()))) if all(array.ndim for array in tensors.values()) else 0
        for name, array in tensors.items():
            if not array.ndim or not 0 < n_rows <= MAX_ROWS or len(array) != n_rows:
                message = f"The first axis is the batch, 1 to {MAX_ROWS} and the same for every input."
                raise Problem.at(places[name] + "/shape", "invalid_value", message)
            shape = known[name].shape
            # a number per row may have an axis of its own, as other servers ask for
            arrays[name] = array.reshape(n_rows) if not shape and array.shape == (n_rows, 1) else array
        leaves = {
            one.leaf: arrays[one.name] if one.name in arrays else np.ones((n_rows, *one.shape), bool)
            for one in self.inputs
        }
        parameters = request.parameters
        try:
            rows = reader.named(leaves)
        except SpaceMismatchError as error:
            _, row, *at = error.pointer.split("/")
            place = next(
                (places.get(one.name, "/inputs") for one in self.inputs if [one.leaf] == at[:1]), "/inputs/0"
            )
            message = f"Row {row} of the batch{', at /' + '/'.join(at) if at else ''}: {error}"
            raise Problem.at(place, "space_mismatch", message) from error
        return Job(reader, rows, parameters.deterministic, parameters.seed, reply, None, is_many=True)

    def wanted(self, request: InferRequest) -> tuple[list[str], list[str]]:
        """Names of the outputs that are asked for, and those of them that are to be bytes.

        Raises:
            Problem: 422, there is no such output.
        """
        given = [tensor.name for tensor in self.outputs]
        wanted: dict[str, bool] = {}
        is_binary = request.parameters.binary_data_output
        for i, output in enumerate(request.outputs):
            if output.name not in (*given, *TOLD):
                known = suggestion(output.name[:64], [*given, *TOLD])
                message = (
                    f"This model has no output {output.name[:64]!r}: it has {', '.join([*given, *TOLD])}."
                )
                raise Problem.at(pointer_to("outputs", i, "name"), "unknown_output", message, **known)
            given_so = output.parameters.binary_data
            wanted[output.name] = is_binary if given_so is None else given_so
        wanted = wanted or dict.fromkeys(given, is_binary)
        return list(wanted), [name for name, binary in wanted.items() if binary]

    def columns(self, actions: Sequence[JSON], decisions: Sequence[Mapping[str, Any]]) -> dict[str, Array]:
        """Every output by name, of actions in the environment's form and what was thought of them.

        Raises:
            Problem: 422, the policy has no such thing.
        """
        rows = [self._actions.take_apart(action)[0] for action in actions]
        columns = {
            one.name: np.array([row[one.leaf] for row in rows], self._actions.space[one.leaf].dtype)
            for one in self.outputs
        }
        for name in TOLD if decisions else ():
            values = [decision[name] for decision in decisions]
            if None not in values:
                columns[name] = np.array(values, np.float32)
        return columns


def _named(what: str, name: str, among: Sequence[str]) -> str:
    return what if len(among) == 1 else f"{what}.{name}"


def _tensor(name: str, leaf: str, space: Space[Any], *, is_mask: bool = False) -> Tensor:
    assert space.shape is not None
    assert space.dtype is not None
    datatype = "BOOL" if is_mask else datatype_of(np.dtype(space.dtype))
    return Tensor(name, leaf, datatype, tuple(space.shape), is_mask)
