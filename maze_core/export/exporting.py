"""Write a policy as a file for elsewhere, and believe it once it was read again and acts as the checkpoint does."""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from maze_core.agent import Agent, load_agent
from maze_core.checkpoint import Checkpoint, section
from maze_core.errors import CheckpointError, InvalidSpecificationError, NotServableError
from maze_core.export import numpy_policy
from maze_core.export.stack import FORMAT, NEXT_STATE, Stack, stacks_of
from maze_core.files import write_atomically
from maze_core.models.memory import STATE
from maze_core.types import Action, ActorID, Array, Observation, StepKey

Format = Literal["onnx", "numpy"]
FORMATS: Final[tuple[Format, ...]] = ("onnx", "numpy")
_SUFFIXES: Final[dict[str, Format]] = {".onnx": "onnx", ".npz": "numpy", "": "numpy"}
_LOADER = "numpy_policy.py"
_FIXED_TIME = (1980, 1, 1, 0, 0, 0)


def export_policy(
    checkpoint: Checkpoint,
    path: Path,
    *,
    format: str | None = None,
    actor_id: ActorID | tuple[StepKey, int] | None = None,
    objects: Mapping[str, object] | None = None,
) -> Path:
    """Write the whole trained stack, raw observation in, likeliest action out.

    Args:
        checkpoint: whose policy is written.
        path: the file; a path without a suffix is a new folder for a NumPy bundle beside its loader.
        format: ``onnx`` or ``numpy``; None takes what the suffix says, ``.onnx``, or ``.npz`` and none.
        actor_id: who acts, where there are sub-steps or networks of each agent: an ONNX file has one of them, a
            bundle all.
        objects: live objects that the configuration only names.

    Returns:
        The absolute path.

    Raises:
        NotServableError: a part cannot be expressed in this format.
        CheckpointError: what was written does not act as the checkpoint does; nothing is left of it.
        InvalidSpecificationError: the format is not known, its extra is not installed, or an actor has to be named.
    """
    target = path.resolve()
    chosen = _format(target, format)
    if target.is_dir():
        message = f"{target} is there already; name a file, or a folder that is to be made."
        raise InvalidSpecificationError(message, path="path", code="contradiction")
    agent = load_agent(checkpoint, objects=objects)
    stacks = stacks_of(agent)
    write = _write_onnx if chosen == "onnx" else _write_numpy
    if chosen == "onnx":
        stacks = [_one(stacks, None if actor_id is None else agent.actor(actor_id))]
    data, act = write(checkpoint, stacks)
    for stack in stacks:
        _compare(agent, checkpoint, stack, act)
    if target.suffix:
        write_atomically(target, data)
    else:
        target.mkdir(parents=True)
        write_atomically(target / "policy.npz", data)
        write_atomically(target / _LOADER, _loader())
    return target


Act = Callable[[Stack, Observation], Action]
"""What acts by the bytes that were made, as read again."""


def _write_numpy(checkpoint: Checkpoint, stacks: list[Stack]) -> tuple[bytes, Act]:
    if any(stack.module is not None for stack in stacks):
        raise NotServableError(
            "Its network is a torch module, which NumPy alone does not run: export it as ONNX."
        )
    spec = {"format": FORMAT, **_origin(checkpoint), "actors": [stack.to_json() for stack in stacks]}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        _put(file, "policy.json", json.dumps(spec, indent=1).encode())
        _put(file, _LOADER, _loader())
        for name, array in {n: x for stack in stacks for n, x in stack.arrays.items()}.items():
            member = io.BytesIO()
            np.save(member, array, allow_pickle=False)
            _put(file, f"{name}.npy", member.getvalue())
    policy = numpy_policy.NumpyPolicy.load(io.BytesIO(buffer.getvalue()))

    def act(stack: Stack, observations: Observation) -> Action:
        found: Action = policy.act_batch(observations, (stack.step_key, stack.agent_id or 0))
        return found

    return buffer.getvalue(), act


def _put(file: zipfile.ZipFile, name: str, content: bytes) -> None:
    file.writestr(zipfile.ZipInfo(name, _FIXED_TIME), content, zipfile.ZIP_DEFLATED)


def _loader() -> bytes:
    return Path(numpy_policy.__file__).read_bytes()


def _write_onnx(checkpoint: Checkpoint, stacks: list[Stack]) -> tuple[bytes, Act]:
    missing = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    if missing:
        message = f"needs {', '.join(missing)}, which is not installed: pip install 'maze-service[onnx]'."
        raise InvalidSpecificationError(message, path="format", code="missing_extra")
    import onnxruntime

    from maze_core.export.onnx_graph import onnx_model, output_name

    (stack,) = stacks
    origin = {name: str(value) for name, value in _origin(checkpoint).items()}
    actor = json.dumps([stack.step_key, stack.agent_id])
    data = onnx_model(stack, {**origin, "actor_id": actor}).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of its own many classes
        raise NotServableError(f"onnxruntime does not run this network: {error}") from error
    heads = {output_name(stack, head): head for head in stack.outputs}
    names = [each.name for each in session.get_inputs()], [each.name for each in session.get_outputs()]
    if names != (list(stack.inputs), list(heads)):
        raise CheckpointError(f"The ONNX file has other inputs and outputs than were asked for: {names}.")

    def act(stack: Stack, observations: Observation) -> Action:
        given = {name: values.astype(stack.inputs[name][0]) for name, values in observations.items()}
        try:
            return dict(zip(heads.values(), session.run(list(heads), given), strict=True))
        except Exception as error:  # as above
            raise NotServableError(f"onnxruntime does not run this network: {error}") from error

    return bytes(data), act


def _origin(checkpoint: Checkpoint) -> dict[str, Any]:
    env = checkpoint.identity["config"]["env"]
    return {"checkpoint_sha256": checkpoint.content_sha256, "env": env.get("name")}


def _format(path: Path, given: str | None) -> Format:
    found = given or _SUFFIXES.get(path.suffix)
    if found not in FORMATS or (given is not None and _SUFFIXES.get(path.suffix) != given):
        message = f"{path.name} is written as .onnx (onnx), or as .npz or a folder without suffix (numpy)."
        raise InvalidSpecificationError(message, path="format", code="contradiction")
    return FORMATS[FORMATS.index(found)]


def _one(stacks: list[Stack], actor: ActorID | None) -> Stack:
    if actor is None and len(stacks) > 1:
        known = [(stack.step_key, stack.agent_id or 0) for stack in stacks]
        message = (
            f"an ONNX file has one actor: name it, one of {known}, or export a NumPy bundle, which has all."
        )
        raise InvalidSpecificationError(message, path="actor_id", code="missing")
    wanted = (
        stack for stack in stacks if actor is None or (stack.step_key, stack.agent_id or actor[1]) == actor
    )
    return next(wanted)


def _compare(agent: Agent, checkpoint: Checkpoint, stack: Stack, act: Act) -> None:
    """Make sure that recorded observations give the actions of the checkpoint; with a state, one after the other."""
    place = list(agent.observation_spaces).index(stack.step_key)
    observations = section(checkpoint.tensors, f"recorded/{place}/observation")
    if not observations:
        raise CheckpointError("The checkpoint has no recorded observations to check what was exported by.")
    actor = ActorID(stack.step_key, stack.agent_id or 0)
    n_rows = len(next(iter(observations.values())))
    states, state = [agent.fresh_state()], {}
    if NEXT_STATE in stack.outputs:
        state = {STATE: np.zeros((1, *stack.inputs[STATE][1]), np.float32)}
    expected = section(checkpoint.tensors, f"recorded/{place}/action") if not stack.agent_id else {}
    for rows in (slice(row, row + 1) for row in range(n_rows)):
        seen = {name: x[rows] for name, x in observations.items()}
        acted, states = agent.carry(actor, seen, states, True, None)
        given = act(stack, {**seen, **state})
        state = {STATE: given.pop(NEXT_STATE)} if state else {}
        _refuse_others(given, acted)
        _refuse_others(given, {head: x[rows] for head, x in expected.items()})
    many = {STATE: np.zeros((n_rows, *stack.inputs[STATE][1]), np.float32)} if state else {}
    together = act(stack, {**observations, **many})
    if not state:
        _refuse_others(together, expected or agent.act_as(actor, observations, True, None))


def _refuse_others(given: Action, expected: Action) -> None:
    for head, values in expected.items():
        if head not in given or not _same(given[head], np.asarray(values)):
            message = (
                f"What was exported acts otherwise than the checkpoint (head {head!r}); nothing was written."
            )
            raise CheckpointError(message)


def _same(given: Array, expected: Array) -> bool:
    if given.shape != expected.shape or given.dtype != expected.dtype:
        return False
    if expected.dtype.kind == "f":
        return bool(np.allclose(given, expected, rtol=1e-4, atol=1e-5))
    return bool(np.array_equal(given, expected))
