"""Settings of DQN and QR-DQN; YAML twins in ``conf/algorithm/dqn.yaml`` and ``qrdqn.yaml``."""

import dataclasses
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from maze_core.config.settings import (
    STRICT,
    OptionalPositiveFloat,
    OptionalPositiveInt,
    PositiveInt,
    dataclass,
)
from maze_core.data.prioritized import PrioritizedReplay
from maze_core.data.replay import Replay
from maze_core.models.config import ModelNeeds
from maze_core.trainers.config import Fraction, OffPolicyConfig

if TYPE_CHECKING:
    from maze_core.trainers.dqn import DQN
    from maze_core.trainers.fit import Parts


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DQNAlgorithmConfig(OffPolicyConfig):
    """Deep Q-learning with a target network (Mnih et al. 2015, Nature 518), double by default (arXiv:1509.06461)."""

    n_epochs: OptionalPositiveInt = 100
    """Epochs to train; schedules end here, and start anew when more are asked for."""
    n_gradient_steps: OptionalPositiveInt = 2
    """Gradient steps per update; null (or 0) takes one per environment step."""
    batch_size: PositiveInt = 64
    """Transitions per gradient step."""
    target_update_steps: PositiveInt = 500
    """Environment steps after which the target network follows."""
    tau: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """How far the target network follows then; 1 copies."""
    max_grad_norm: OptionalPositiveFloat = 10.0
    """L2 limit on the gradient; null does not clip."""
    initial_epsilon: Fraction = 1.0
    """Share of uniform actions at the start."""
    final_epsilon: Fraction = 0.05
    """Share of uniform actions at the end."""
    exploration_fraction: Annotated[float, Field(gt=0.0, le=1.0)] = 0.2
    """Part of the run over which the share falls, in a straight line."""
    double: bool = True
    """The learning network chooses the next action and the target network values it (van Hasselt et al. 2016)."""
    duelling: bool = False
    """Values of states and advantages of actions are learnt apart (Wang et al. 2016, arXiv:1511.06581)."""
    prioritized: bool = False
    """Draw by error (Schaul et al. 2016, arXiv:1511.05952)."""
    priority_alpha: Fraction = 0.6
    """How far errors decide what is drawn; 0 draws all alike."""
    priority_beta: Fraction = 0.4
    """How far weights make up for that at the start; it rises to 1 over the run."""

    @property
    def model_needs(self) -> ModelNeeds:
        """One choice among actions, each with a value; no critic beside."""
        return ModelNeeds(
            distributions={"Discrete": "action_values"},
            critic=None,
            algorithm="dqn",
            duelling=self.duelling,
        )

    def replay(self) -> Replay:
        """An empty memory."""
        if not self.prioritized:
            return super().replay()
        return PrioritizedReplay(
            self.replay_capacity, gamma=self.gamma, n_steps=self.n_step_returns, alpha=self.priority_alpha
        )

    def build(self, parts: "Parts") -> "DQN":
        """The trainer of these settings."""
        from maze_core.trainers.dqn import DQN

        return DQN(self, parts)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class QRDQNAlgorithmConfig(DQNAlgorithmConfig):
    """DQN that learns quantiles of the return (Dabney et al. 2017, arXiv:1710.10044)."""

    n_quantiles: Annotated[int, Field(ge=2, le=1024)] = 50
    """Quantiles per action."""

    @property
    def model_needs(self) -> ModelNeeds:
        """As DQN, with several numbers per action."""
        return dataclasses.replace(super().model_needs, algorithm="qrdqn", n_quantiles=self.n_quantiles)
