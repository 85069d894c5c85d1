"""A served agent as a model of the Open Inference Protocol: named tensors in, named tensors out.

Inputs are the leaves of the observation, ``obs`` where there is one and ``obs.NAME`` of several, and masks as
``action_mask`` (``action_mask.HEAD``), which allow everything where they are left out. Outputs are ``action``
(``action.HEAD``), and on request ``log_prob`` and ``value``. The first axis of every tensor is the batch.

Requests of one sequence are the steps of a session, which carries from one to the next what the policy carries.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from gymnasium import Space

from maze_core.data.flat_space import SpaceReader
from maze_core.errors import SpaceMismatchError
from maze_core.models.decisions import Wanted
from maze_core.notices import Notices
from maze_core.types import JSON, Array, mask_name
from service.problems import Problem, pointer_to, suggestion
from service.serving.batching import Extras, Job, Reply
from service.serving.observations import MAX_ROWS, ObservationReader
from service.serving.served import ServedAgent
from service.serving.sessions.session import Session, StepRequest
from service.serving.tensors import InferRequest, datatype_of, read_request, write_response

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


class Inference:
    """One request, from its tensors to those of the answer."""

    def __init__(self, body: bytes, request: InferRequest, tensors: Mapping[str, Array]) -> None:
        """Take what came."""
        self.body, self.request, self._tensors = body, request, tensors
        self.is_sequence = request.parameters.sequence_id not in (0, "")
        if not self.is_sequence and (request.parameters.sequence_start or request.parameters.sequence_end):
            message = "A sequence that begins or ends has a sequence_id, a number from 1 or a text."
            raise Problem.at("/parameters/sequence_id", "missing_field", message)

    @classmethod
    def of(cls, body: bytes, head_length: str | None) -> "Inference":
        """What a body asks; raises as :func:`read_request`."""
        return cls(body, *read_request(body, head_length))

    @property
    def n_bytes(self) -> int:
        """Of its tensors."""
        return sum(array.nbytes for array in self._tensors.values())

    def job(self, served: ServedAgent, reply: Reply) -> Job:
        """The request with its observations checked; ``reply`` will get the actions.

        Raises:
            Problem: 422, there is no such actor or output, the policy carries a state and no sequence says which, or as
                :meth:`Model.job`.
        """
        parameters = self.request.parameters
        if served.has_state and not self.is_sequence:
            message = "This policy carries a state through an episode: give the sequence_id of the episode."
            raise Problem.at("/parameters/sequence_id", "missing_field", message)
        try:
            reader = served.reader(parameters.actor_step_key, parameters.actor_agent_id)
        except Problem as error:
            raise Problem.at("/parameters", "unknown_actor", error.detail) from error
        self._model = Model.of(reader)
        self._outputs, self._binary = self._model.wanted(self.request)
        job = self._model.job(reader, self.request, self._tensors, reply)
        if self.is_sequence and len(job.rows) > 1:
            message = f"A request of a sequence has one observation, its next one, and not {len(job.rows)}."
            raise Problem.at("/inputs/0/shape", "invalid_value", message)
        self._extras = Extras(Wanted() if set(TOLD) & set(self._outputs) else None, decisions=[])
        job.extras = self._extras
        return job

    def answer(self, head: Mapping[str, Any], actions: Sequence[JSON]) -> tuple[dict[str, str], bytes]:
        """Headers and body of the answer, after :meth:`job`.

        Args:
            head: its members but for those that are the request's and ``outputs``.
            actions: what the job got.

        Raises:
            Problem: 422, the policy has no such output.
        """
        columns = self._model.columns(actions, self._extras.decisions)
        if untold := [name for name in self._outputs if name not in columns]:
            message = f"This policy cannot tell {untold[0]}: it has no critic, or no distribution."
            raise Problem.at("/outputs", "unknown_output", message)
        said = {"id": self.request.id} if self.request.id else {}
        return write_response({**head, **said}, {name: columns[name] for name in self._outputs}, self._binary)


class SequenceStep(StepRequest, kw_only=True):
    """A step of a session as a request of a sequence; its observation is the request's body."""

    inference: Inference

    def job(self, session: Session, served: ServedAgent, reply: Reply) -> Job:
        """As :meth:`StepRequest.job`; how the action is drawn is said by each request."""
        job = self.inference.job(served, reply)
        job.states = [session.state] if served.has_state else None
        return job


def _named(what: str, name: str, among: Sequence[str]) -> str:
    return what if len(among) == 1 else f"{what}.{name}"


def _tensor(name: str, leaf: str, space: Space[Any], *, is_mask: bool = False) -> Tensor:
    assert space.shape is not None
    assert space.dtype is not None
    datatype = "BOOL" if is_mask else datatype_of(np.dtype(space.dtype))
    return Tensor(name, leaf, datatype, tuple(space.shape), is_mask)
