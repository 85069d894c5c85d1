"""Acts with an exported policy; needs NumPy and nothing else, so this file may be copied wherever the policy goes.

A bundle is a ZIP file of arrays (``policy.npz``) with two texts: ``policy.json``, what is computed, step by step, and
``numpy_policy.py``, this file::

    from numpy_policy import NumpyPolicy

    policy = NumpyPolicy.load("policy.npz")
    action = policy.act(observation)                  # raw, as the environment gives it; the likeliest action
    actions = policy.act_batch({"observation": batch})  # name -> [B, ...], head -> [B, ...]

Environments with sub-steps or several agents name who acts: ``policy.act(observation, actor_id=("pick", 0))``.
"""

import json
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Op = dict[str, Any]
Slots = dict[str, Array]

FORMAT = 1
_MASKED = np.float32(np.finfo(np.float32).min)


class NumpyPolicy:
    """A policy with all that stands around it: what was done to observations and actions in training is done here."""

    def __init__(self, spec: dict[str, Any], arrays: Mapping[str, Array]) -> None:
        """Take the description, and the arrays that it names."""
        if spec.get("format") != FORMAT:
            raise ValueError(f"format {spec.get('format')!r} is not known here, {FORMAT} is")
        self.spec, self.arrays = spec, arrays
        self._actors = {(entry["step_key"], entry["agent_id"]): entry for entry in spec["actors"]}

    @classmethod
    def load(cls, path: Any) -> "NumpyPolicy":
        """Read a bundle; nothing of it is unpickled."""
        with zipfile.ZipFile(path) as file:
            spec = json.loads(file.read("policy.json"))
        with np.load(path, allow_pickle=False) as found:
            arrays = {
                name: found[name] for name in found.files if name not in ("policy.json", "numpy_policy.py")
            }
        return cls(spec, arrays)

    def act(self, observation: Any, actor_id: Any = None) -> Any:
        """The likeliest action for one raw observation, in the environment's own form."""
        entry = self._actor(actor_id)
        leaves = dict(_leaves(entry["observation_form"], observation))
        batch = {name: np.asarray(value)[None] for name, value in leaves.items()}
        actions = {head: values[0] for head, values in self.act_batch(batch, actor_id).items()}
        return _put_together(entry["action_form"], actions)

    def act_batch(self, observations: Mapping[str, Any], actor_id: Any = None) -> dict[str, Array]:
        """Actions ``head -> [B, ...]`` for raw observations ``name -> [B, ...]``."""
        entry = self._actor(actor_id)
        slots: Slots = {}
        for name, (dtype, shape) in entry["inputs"].items():
            values = np.asarray(observations[name])
            if list(values.shape[1:]) != shape:
                raise ValueError(f"observation {name!r} should be {shape}, it is {list(values.shape[1:])}")
            slots[name] = values.astype(dtype)
        for op in entry["ops"]:
            slots[op["to"]] = _OPS[op["op"]](self, op, slots)
        return {head: slots[slot] for head, slot in entry["outputs"].items()}

    def _actor(self, actor_id: Any) -> dict[str, Any]:
        if actor_id is None:
            return dict(self.spec["actors"][0])
        key, agent = actor_id
        found = self._actors.get((key, agent)) or self._actors.get((key, None))
        if found is None:
            raise ValueError(f"there is no actor {actor_id!r}; there is {list(self._actors)}")
        return dict(found)


def _leaves(form: Any, value: Any) -> Iterator[tuple[str, Any]]:
    """Name and value of each part of an observation."""
    if isinstance(form, str):
        if isinstance(value, dict) and set(value) == {form}:
            value = value[form]
        yield form, value
    elif form is not None:
        parts = form["dict"] if "dict" in form else enumerate(form["tuple"])
        for key, inner in parts:
            if inner is not None:
                yield from _leaves(inner, value[key])


def _put_together(form: Any, leaves: Mapping[str, Any]) -> Any:
    if isinstance(form, str):
        return leaves[form]
    if "dict" in form:
        return {key: _put_together(inner, leaves) for key, inner in form["dict"]}
    return tuple(_put_together(inner, leaves) for inner in form["tuple"])


def _cast(policy: "NumpyPolicy", op: Op, slots: Slots) -> Any:
    return slots[op["x"]].astype(op["dtype"])


def _scale(policy: "NumpyPolicy", op: Op, slots: Slots) -> Any:
    """(x - shift) / scale, in the dtype of the two."""
    shift, scale = policy.arrays[op["shift"]], policy.arrays[op["scale"]]
    return (slots[op["x"]].astype(shift.dtype) - shift) / scale


def _clip(policy: "NumpyPolicy", op: Op, slots: Slots) -> Any:
    return np.minimum(np.maximum(slots[op["x"]], policy.arrays[op["low"]]), policy.arrays[op["high"]])


def _reshape(policy: "NumpyPolicy", op: Op, slots: Slots) -> Any:
    x = slots[op["x"]]
    return x.reshape(len(x), *op["shape"])


def _transpose(policy: "NumpyPolicy", op: Op, slots: Slots) -> Any:
    return slots[op["x"]].transpose(0, *(axis + 1 for axis in op["axes"]))


def _indicators(policy: "NumpyPolicy", op: Op, slots: Slots) -> Any:
    """Column i is 1 where number ``groups[i]`` of a row is ``values[i]``."""
    x = slots[op["x"]]
    return (x.reshape(len(x), -1)[:, policy.arrays[op["groups"]]] == policy.arrays[op["values"]]).astype("f4")


def _weigh(policy: "NumpyPolicy", op: Op, slots: Slots) -> Any:
    """A weighted sum over one axis, which goes; whole weights are thousandths, and rounded to the nearest."""
    weights = policy.arrays[op["weights"]]
    total = np.moveaxis(slots[op["x"]], op["axis"] + 1, -1).astype(weights.dtype) @ weights
    return total if weights.dtype.kind == "f" else (total + 500) // 1000


def _resize(policy: "NumpyPolicy", op: Op, slots: Slots) -> Any:
    """Rows and columns, the last two axes, each mixed by a matrix."""
    x, rows, columns = slots[op["x"]], policy.arrays[op["rows"]], policy.arrays[op["columns"]]
    return rows @ x.astype(rows.dtype) @ columns.T


def _concat(policy: "NumpyPolicy", op: Op, slots: Slots) -> Any:
    return np.concatenate([slots[x] for x in op["xs"]], 1)


def _dense(policy: "NumpyPolicy", op: Op, slots: Slots) -> Any:
    y = slots[op["x"]] @ policy.arrays[op["weight"]].T + policy.arrays[op["bias"]]
    return _ACTIVATIONS[op["activation"]](y)


def _action_values(policy: "NumpyPolicy", op: Op, slots: Slots) -> Any:
    x = slots[op["x"]]
    means = x.reshape(len(x), -1, op["n_quantiles"]).mean(2)
    if not op["duelling"]:
        return means
    return means[:, :1] + means[:, 1:] - means[:, 1:].mean(1, keepdims=True)


def _columns(policy: "NumpyPolicy", op: Op, slots: Slots) -> Any:
    return slots[op["x"]][:, op["start"] : op["stop"]]


def _mask(policy: "NumpyPolicy", op: Op, slots: Slots) -> Any:
    x = slots[op["x"]]
    return np.where(slots[op["mask"]].reshape(x.shape) != 0, x, _MASKED)


def _best(policy: "NumpyPolicy", op: Op, slots: Slots) -> Any:
    return slots[op["x"]].argmax(1) + op["start"]


def _stack(policy: "NumpyPolicy", op: Op, slots: Slots) -> Any:
    return np.stack([slots[x] for x in op["xs"]], 1)


def _bits(policy: "NumpyPolicy", op: Op, slots: Slots) -> Any:
    return slots[op["x"]] > 0


def _tanh(policy: "NumpyPolicy", op: Op, slots: Slots) -> Any:
    return np.tanh(slots[op["x"]])


def _softplus_of(policy: "NumpyPolicy", op: Op, slots: Slots) -> Any:
    return np.logaddexp(0.0, slots[op["x"]])


def _balance(policy: "NumpyPolicy", op: Op, slots: Slots) -> Any:
    """(a - b) / (a + b)."""
    a, b = (slots[x] for x in op["xs"])
    return (a - b) / (a + b)


def _pick(policy: "NumpyPolicy", op: Op, slots: Slots) -> Any:
    return slots[op["x"]][:, policy.arrays[op["columns"]]]


def _affine(policy: "NumpyPolicy", op: Op, slots: Slots) -> Any:
    return policy.arrays[op["center"]] + policy.arrays[op["half_range"]] * slots[op["x"]]


def _round(policy: "NumpyPolicy", op: Op, slots: Slots) -> Any:
    return np.rint(slots[op["x"]])


def _look_up(policy: "NumpyPolicy", op: Op, slots: Slots) -> Any:
    """The entry of a table, ``[n]``, that each row chose."""
    return policy.arrays[op["table"]][slots[op["x"]]]


_OPS = {
    "cast": _cast, "scale": _scale, "clip": _clip, "reshape": _reshape, "transpose": _transpose,
    "indicators": _indicators, "weigh": _weigh, "resize": _resize, "concat": _concat, "dense": _dense,
    "action_values": _action_values, "columns": _columns, "mask": _mask, "best": _best, "stack": _stack,
    "bits": _bits, "softplus": _softplus_of, "balance": _balance, "pick": _pick, "tanh": _tanh,
    "affine": _affine, "round": _round, "look_up": _look_up,
}  # fmt: skip


def _sigmoid(x: Array) -> Any:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _softplus(x: Array) -> Any:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _erf(x: Array) -> Any:
    """Abramowitz and Stegun 1964, 7.1.26: to 1.5e-7."""
    t = 1 / (1 + 0.3275911 * np.abs(x))
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return np.sign(x) * (1 - series * np.exp(-x * x))


def _elu(x: Array, alpha: Any = 1.0) -> Any:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


_ACTIVATIONS: dict[str, Any] = {
    "identity": lambda x: x,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "elu": _elu,
    "sigmoid": _sigmoid,
    "silu": lambda x: x * _sigmoid(x),
    "leaky_relu": lambda x: np.maximum(x, np.float32(0.01) * x),
    "gelu": lambda x: x * 0.5 * (1 + _erf(x * np.float32(0.5**0.5))),
    "selu": lambda x: np.float32(1.0507009873554805) * _elu(x, np.float32(1.6732632423543772)),
    "mish": lambda x: x * np.tanh(_softplus(x)),
    "softplus": _softplus,
}
