"""Two critics of actions that learn from the same targets, of which the lower is believed, and two that follow them.

Clipped double Q-learning (Fujimoto et al. 2018, arXiv:1802.09477). Critics give one value for the numbers they are
shown, or one for each of the choices.
"""

from collections.abc import Callable, Collection
from functools import reduce

import numpy as np

from maze_core.models.networks import ActionCritic
from maze_core.objectives.td import polyak, squared_td
from maze_core.trainers.config import TwinCriticsConfig
from maze_core.trainers.fit import Parts, critic_of, mean
from maze_core.trainers.learner import nets
from maze_core.trainers.optim import FlatParameters, GradientStep
from maze_core.types import FloatArray, IntArray, NamedArrays


class TwinCritics:
    """The critics of one run, and how they learn.

    Args:
        config: the algorithm's settings.
        parts: the model's critic is taken.
        inputs: names by which the critics are shown actions; none where they have an output for each choice.
        n_judges: critics that a policy is judged by.

    Raises:
        InvalidSpecificationError: the model has no critic.
    """

    def __init__(
        self, config: TwinCriticsConfig, parts: Parts, inputs: Collection[str], n_judges: int = 2
    ) -> None:
        self._tau, self.online = config.tau, critic_of(parts, ActionCritic)
        self.target = self.online.twin()
        n = len(self.online.networks)
        self.step = GradientStep(
            {"critic": self.online},
            lr=config.critic_lr or config.lr,
            max_grad_norm=config.max_grad_norm,
            optimizer=config.optimizer,
        )
        self._target_parameters = FlatParameters({"critic": self.target})
        gradients = [self.step.gradients_of(f"critic/networks.{i}.") for i in range(n)]
        self._learning = nets(self.online.networks, gradients)
        self._judging = nets(self.online.networks[:n_judges], None, inputs)
        self._following = nets(self.target.networks, None)

    def learn(self, inputs: NamedArrays, targets: FloatArray, chosen: IntArray | None) -> dict[str, float]:
        """One step towards the targets ``[N]``; the values to report.

        Args:
            inputs: observations and what was done, ``[N, …]``.
            targets: ``[N]``.
            chosen: of critics with an output for each choice, what was chosen, ``[N]``.
        """
        outputs, pull = self._learning(inputs)
        stacked = np.array(outputs)  # [critics, n, N]
        of_chosen = (..., 0, slice(None)) if chosen is None else (..., chosen, np.arange(len(targets)))
        values = stacked[of_chosen]
        loss, d_values = squared_td(values, targets)
        d_outputs = np.zeros_like(stacked)
        d_outputs[of_chosen] = d_values
        self.step.zero()
        pull([*d_outputs])
        return {
            "train/value_loss": loss,
            "train/action_value": mean(values),
            "train/grad_norm": self.step.step(),
        }

    def judge(self, inputs: NamedArrays) -> tuple[FloatArray, Callable[[float], NamedArrays]]:
        """The lowest values ``[n, N]``, and ∂L/∂value of all of them → ∂L/∂number of the actions that were shown."""
        outputs, pull = self._judging(inputs)
        least = reduce(np.minimum, outputs)

        def pull_least(d_values: float) -> NamedArrays:
            d, rest = [], np.full_like(least, d_values)
            for output in outputs[:-1]:
                d.append(np.where(output == least, rest, np.float32(0)))
                rest = rest - d[-1]
            return pull([*d, rest])

        return least, pull_least

    def predict(self, inputs: NamedArrays) -> FloatArray:
        """The lower values ``[n, N]`` of the critics that follow."""
        outputs, _ = self._following(inputs)
        return reduce(np.minimum, outputs)

    def follow(self) -> None:
        """Let the followers come nearer."""
        polyak(self._target_parameters.flat, self.step.flat, self._tau)
