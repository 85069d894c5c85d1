"""Networks from what a configuration names: settings, classes, functions or modules, for given spaces."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import nn

from maze_core.config.late_arguments import CRITIC_NETWORK_ARGUMENTS, POLICY_NETWORK_ARGUMENTS
from maze_core.errors import InvalidSpecificationError, Problem
from maze_core.models.builders import (
    POLICY_GAIN,
    VALUE_GAIN,
    flatten_concat,
    from_template,
    input_spaces,
)
from maze_core.models.config import (
    ConcatModelBuilderConfig,
    DenseBlockParams,
    FlattenConcatPolicyNetConfig,
    FlattenConcatStateValueNetConfig,
)
from maze_core.models.networks import GraphNetwork, ModuleNetwork
from maze_core.types import StepKey

Network = GraphNetwork | ModuleNetwork


@dataclass(frozen=True, kw_only=True)
class NetworkFactory:
    """Makes the networks of a policy, or those of a critic."""

    is_policy: bool
    masks: frozenset[str]
    """Observations that are no input of a network."""
    template: ConcatModelBuilderConfig | None
    generator: torch.Generator
    copies: dict[int, Any]
    """What was copied already; see :class:`~maze_core.models.spec.ModelSpec`."""

    def make(self, entry: Any, space: spaces.Dict, outputs: Mapping[str, int], path: str) -> Network:
        """A new network.

        Args:
            entry: what the configuration names; None asks for the template.
            space: the observations.
            outputs: action head → number of logits, or ``{"value": 1}``.
            path: where the entry stands in the configuration.

        Raises:
            InvalidSpecificationError: the entry is no network, or does not fit the spaces.
        """
        settings = FlattenConcatPolicyNetConfig if self.is_policy else FlattenConcatStateValueNetConfig
        n_out, gain = sum(outputs.values()), POLICY_GAIN if self.is_policy else VALUE_GAIN
        if isinstance(entry, settings):
            hidden = DenseBlockParams(hidden_units=entry.hidden_units, non_lin=entry.non_lin)
            program = flatten_concat(input_spaces(space, self.masks), hidden, n_out, gain)
            return GraphNetwork(program, outputs, self.generator)
        if entry is None:
            if self.template is None:
                raise _problem(
                    path, "names no networks, and this model has no template: use model=vector_obs."
                )
            program = from_template(input_spaces(space, self.masks), self.template, n_out, gain)
            return GraphNetwork(program, outputs, self.generator)
        if isinstance(entry, nn.Module):  # a copy: the caller's own and every other model stay as they are
            return self._fitted(copy.deepcopy(entry, self.copies), space, outputs, path)
        if callable(entry):
            return self._fitted(self._called(entry, space, outputs, path), space, outputs, path)
        raise _problem(
            path, f"{type(entry).__name__} is no network: give {settings.__name__}, a class or a module."
        )

    def _called(
        self, entry: Callable[..., Any], space: spaces.Dict, outputs: Mapping[str, int], path: str
    ) -> nn.Module:
        seen = {name: tuple(part.shape or ()) for name, part in space.spaces.items()}
        logits = {head: (width,) for head, width in outputs.items()}
        names = POLICY_NETWORK_ARGUMENTS if self.is_policy else CRITIC_NETWORK_ARGUMENTS
        shapes: dict[str, Any] = dict(zip(names, (seen, logits), strict=False))
        try:
            made = entry(**shapes)
        except Exception as error:  # a constructor may raise anything
            given = " and ".join(shapes)
            raise _problem(path, f"cannot be made from {given}: {error}") from error
        if not isinstance(made, nn.Module):
            raise _problem(path, f"gave a {type(made).__name__}, not a torch.nn.Module.")
        return made

    def _fitted(
        self, module: nn.Module, space: spaces.Dict, outputs: Mapping[str, int], path: str
    ) -> Network:
        if isinstance(module, GraphNetwork):
            network: Network = module
            if dict(module.outputs) != dict(outputs):
                raise _problem(path, f"gives {dict(module.outputs)}, it should give {dict(outputs)}.")
        else:
            network = ModuleNetwork(module, outputs)
        other = next((name for name, p in module.named_parameters() if p.dtype != torch.float32), None)
        if other is not None:
            kind = str(module.get_parameter(other).dtype).removeprefix("torch.")
            raise _problem(
                path, f"has a parameter {other!r} of {kind}, it should be float32: call float() on it."
            )
        zeros = {
            name: torch.zeros(1, *(part.shape or ()), dtype=torch.from_numpy(np.zeros(1, part.dtype)).dtype)
            for name, part in space.spaces.items()
        }
        was_training = network.training
        try:
            with torch.no_grad():
                network.eval().evaluate(zeros)
        except Exception as error:  # a module may raise anything
            raise _problem(path, f"does not run on these observations: {error}") from error
        finally:
            network.train(was_training)
        return network


def by_step(networks: Any, step_keys: Sequence[StepKey], path: str) -> dict[StepKey, tuple[Any, str]]:
    """Sub-step → what its network is made from, and where that stands in the configuration.

    Raises:
        InvalidSpecificationError: the networks do not fit the sub-steps, or one module stands for several.
    """
    if networks is None:
        return dict.fromkeys(step_keys, (None, path))
    if isinstance(networks, Mapping):
        named = {str(key): entry for key, entry in networks.items()}
        missing = [key for key in step_keys if str(key) not in named]
        unknown = sorted(set(named) - {str(key) for key in step_keys})
        if missing or unknown:
            message = f"should name exactly the sub-steps {list(step_keys)}."
            raise _problem(path, message, tuple(str(key) for key in step_keys))
        return {key: (named[str(key)], f"{path}.{key}") for key in step_keys}
    entries = list(networks)
    if len(entries) == 1:
        if isinstance(entries[0], nn.Module) and len(step_keys) > 1:
            raise _problem(
                path, f"one module cannot serve {len(step_keys)} sub-steps: give a list or a class."
            )
        return dict.fromkeys(step_keys, (entries[0], f"{path}.0"))
    if len(entries) != len(step_keys):
        raise _problem(
            path, f"has {len(entries)} networks for {len(step_keys)} sub-steps; give one, or one for each."
        )
    return {
        key: (entry, f"{path}.{i}") for i, (key, entry) in enumerate(zip(step_keys, entries, strict=True))
    }


def _problem(path: str, message: str, allowed: tuple[str, ...] = ()) -> InvalidSpecificationError:
    return InvalidSpecificationError([Problem(path=path, message=message, allowed=allowed)])
