"""A policy of the user's: any object with ``act``.

    class PushRight:
        def act(self, step_key, observations, *, deterministic, noise, agent_id):
            return {"action": np.ones(len(observations["observation"]), dtype=int)}

``act`` decides for a batch of ``B`` environments at once: ``observations`` is name → ``[B, …]``, as the wrappers show
them, ``agent_id`` is ``[B]``, and what it gives is action head → ``[B, …]``. It is called with exactly these names; one
that needs fewer takes ``**_``. Nothing else is needed. With a method ``noise(step_key, rng, n_rows)`` that draws
``[n_rows, width]`` from ``rng``, ``noise`` is that array where samples are asked for, and with ``needs_noise = True``
always; otherwise it is None. A policy that draws from elsewhere gives other numbers with another number of
environments.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from maze_core.data.values import limits
from maze_core.errors import InvalidSpecificationError, Problem, SpaceMismatchError
from maze_core.models.acting import ActingPolicy
from maze_core.rollout.episodes import Policy
from maze_core.types import Action, Array, FloatArray, IntArray, Observation, StepKey

_CALL = "act(step_key, observations, deterministic=…, noise=…, agent_id=…)"


def as_policy(given: Any, action_spaces: Mapping[StepKey, spaces.Dict]) -> Policy:
    """An object with ``act`` as a policy; what it gives is checked unless it is one of ours.

    Args:
        given: what acts.
        action_spaces: what it does, per sub-step.

    Raises:
        InvalidSpecificationError: its ``act`` takes other arguments.
    """
    if isinstance(given, ActingPolicy | UserPolicy):
        return given
    return UserPolicy(given, action_spaces)


def refuse_other_act(policy: Any) -> None:
    """Make sure that an object's ``act`` can be called as it will be.

    Raises:
        InvalidSpecificationError: it takes other arguments, or is to get noise that nobody draws.
    """
    name = type(policy).__name__
    if inspect.isclass(policy):
        raise _problem(f"{policy.__name__} is a class; give an object of it: {policy.__name__}(…).")
    try:
        signature = inspect.signature(policy.act)
    except (TypeError, ValueError):
        if not callable(policy.act):
            raise _problem(f"{name}.act is no method; it is called as {_CALL}.") from None
        return  # a callable that does not tell
    try:
        signature.bind(0, {}, deterministic=True, noise=None, agent_id=None)
    except TypeError as error:
        message = (
            f"{name}.act{signature} cannot be called as {_CALL} ({error}); "
            "give it these arguments, or **_ in place of those it does not need."
        )
        raise _problem(message) from error
    if getattr(policy, "needs_noise", False) and not callable(getattr(policy, "noise", None)):
        raise _problem(f"{name}.needs_noise is set, but it has no method noise(step_key, rng, n_rows).")


class UserPolicy:
    """An object with ``act``, with everything else that a policy has."""

    state_widths: Mapping[StepKey, int] = {}

    def __init__(self, policy: Any, action_spaces: Mapping[StepKey, spaces.Dict]) -> None:
        """Take what acts, and what it does per sub-step.

        Raises:
            InvalidSpecificationError: its ``act`` takes other arguments.
        """
        refuse_other_act(policy)
        self._policy = policy
        self._spaces = action_spaces
        self._draws = callable(getattr(policy, "noise", None))
        self.needs_noise = bool(getattr(policy, "needs_noise", False))
        self.needs_torch = bool(getattr(policy, "needs_torch", False))

    def act(
        self,
        step_key: StepKey,
        observations: Observation,
        *,
        deterministic: bool,
        noise: FloatArray | None,
        agent_id: IntArray | None = None,
    ) -> Action:
        """Actions ``head → [B, ...]`` for ``name → [B, ...]``.

        Raises:
            SpaceMismatchError: the object gave something else.
        """
        given = self._policy.act(
            step_key,
            observations,
            deterministic=deterministic,
            noise=noise if self._draws else None,
            agent_id=agent_id,
        )
        n_rows = len(next(iter(observations.values())))
        return _checked(given, self._spaces[step_key], n_rows, f"{type(self._policy).__name__}.act")

    def noise(self, step_key: StepKey, rng: np.random.Generator, n_rows: int) -> FloatArray:
        """Noise ``[n_rows, width]``; of no width where the object draws none.

        Raises:
            SpaceMismatchError: the object gave something else.
        """
        if not self._draws:
            return np.empty((n_rows, 0))
        drawn: FloatArray = np.asarray(self._policy.noise(step_key, rng, n_rows))
        if drawn.ndim != 2 or len(drawn) != n_rows:
            name = type(self._policy).__name__
            raise SpaceMismatchError(
                f"{name}.noise gave an array of shape {drawn.shape}, not [{n_rows}, width]."
            )
        return drawn


def _checked(given: Any, space: spaces.Dict, n_rows: int, name: str) -> Action:
    """Actions that can be played: every head, a row per environment, numbers of the space."""
    heads = ", ".join(map(repr, space))
    if not isinstance(given, Mapping):
        raise SpaceMismatchError(f"{name} gave a {type(given).__name__}, not a dict with {heads}.")
    if set(given) != set(space):
        has = ", ".join(map(repr, given)) or "nothing"
        raise SpaceMismatchError(f"{name} gave {has}; the action is a dict with exactly {heads}.")
    return {head: _rows(given[head], space[head], n_rows, f"{name} for {head!r}") for head in space}


def _rows(values: Any, space: Space[Any], n_rows: int, name: str) -> Array:
    array = np.asarray(values)
    expected = (n_rows, *(space.shape or ()))
    if array.dtype.kind not in "biuf" or array.shape != expected:
        raise SpaceMismatchError(
            f"{name} gave {array.dtype} of shape {array.shape}, not numbers of shape {expected}: "
            "one action per environment of the batch."
        )
    if isinstance(space, spaces.Box):
        return array
    if array.dtype.kind == "f" and (array != np.trunc(array)).any():
        raise SpaceMismatchError(f"{name} gave numbers that are not whole, which {space} does not hold.")
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        low, high = limits(space)
        outside = (array < low) | (array > high)
        if outside.any():
            raise SpaceMismatchError(f"{name} gave {array[outside][0]}, which lies outside {space}.")
    return array


def _problem(message: str) -> InvalidSpecificationError:
    return InvalidSpecificationError([Problem(path="policy", message=message, code="wrong_type")])
