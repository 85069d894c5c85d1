"""Settings that every algorithm shares: the loop's budgets, evaluation and checkpoints."""

from collections.abc import Mapping
from dataclasses import field, replace
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BeforeValidator, Field

from maze_core.config.settings import (
    STRICT,
    NonNegativeInt,
    OptionalPositiveFloat,
    OptionalPositiveInt,
    PositiveInt,
    ReplayCapacity,
    RolloutSteps,
    ZeroIsOff,
    dataclass,
    plain_settings,
)
from maze_core.data.replay import Replay
from maze_core.models.config import ModelNeeds

_OWN_ENVIRONMENTS = (
    "training evaluates in environments of its own, made as env= says: give "
    "{'n_episodes': …, 'deterministic': …} here, and call the RolloutEvaluator with rc.policy after training."
)
_OWN_SELECTION = (
    "training keeps the best checkpoint by itself: leave model_selection out, or call the RolloutEvaluator with "
    "rc.policy after training."
)


def _described(value: Any) -> Any:
    if hasattr(value, "eval_env"):
        raise ValueError(_OWN_ENVIRONMENTS)
    if value is None:
        return RolloutEvaluatorConfig(n_episodes=None)
    return plain_settings(RolloutEvaluatorConfig, value) if isinstance(value, Mapping) else value


Fraction: TypeAlias = Annotated[float, Field(ge=0.0, le=1.0)]
Coefficient: TypeAlias = Annotated[float, Field(ge=0.0)]
Schedule: TypeAlias = Literal["constant", "linear"]
Decay: TypeAlias = Annotated[float, Field(ge=0.0, lt=1.0)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RolloutEvaluatorConfig:
    """How a policy is judged after each epoch."""

    ALWAYS_NULL: ClassVar[Mapping[str, str]] = {
        "eval_env": _OWN_ENVIRONMENTS,
        "model_selection": _OWN_SELECTION,
    }
    """What the published evaluator takes beside its settings."""

    n_episodes: OptionalPositiveInt = 8
    """Episodes per evaluation, each with a seed of its own; null (or 0) evaluates nothing, and the best checkpoint is
    that of the best mean return in training."""
    deterministic: bool = True
    """Take the most likely action instead of a sample."""
    max_episode_steps: OptionalPositiveInt = 10_000
    """Flat steps after which an episode is cut, for environments without a limit of their own; null never cuts."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FitConfig:
    """Settings of the training loop."""

    PLAYS_WHOLE_EPISODES: ClassVar[bool] = False
    """Every environment plays the episode of its own seed, and running statistics stand still until all are reset."""

    n_epochs: OptionalPositiveInt = 30
    """Epochs to train; the learning-rate schedule ends here, and starts anew when more are asked for. null (or 0) goes
    on until patience, another limit or a cancel ends it."""
    epoch_length: PositiveInt = 4
    """Updates per epoch; an evaluation follows the last one."""
    patience: OptionalPositiveInt = None
    """Stop after this many epochs without a better evaluation; null never."""
    checkpoint_every: PositiveInt = 5
    """Epochs between scheduled checkpoints, from which a run resumes bit by bit; the envs are reset there."""
    max_env_steps: OptionalPositiveInt = None
    """Stop after the epoch in which this many environment steps were reached; null never."""
    max_wall_s: OptionalPositiveFloat = None
    """Stop after the epoch in which this many seconds had passed; null never. Not reproducible."""
    target_return: float | None = None
    """Stop when an evaluation's mean return reaches this; null never."""
    rollout_evaluator: Annotated[RolloutEvaluatorConfig, BeforeValidator(_described), ZeroIsOff] = field(
        default_factory=RolloutEvaluatorConfig
    )
    """The evaluation after each epoch; null (or 0) evaluates nothing."""
    deterministic_eval: bool | None = None
    """Older spelling of ``rollout_evaluator.deterministic``; wins where it is given."""
    eval_repeats: NonNegativeInt | None = None
    """Older spelling of ``rollout_evaluator.n_episodes``; wins where it is given."""

    @property
    def most_epochs(self) -> int:
        """``n_epochs``; without a limit what schedules take for one."""
        return self.n_epochs or 1_000_000

    def epochs_left(self, done: int) -> int | None:
        """What is left of ``n_epochs``, or that number again when nothing is; None without a limit."""
        if self.n_epochs is None:
            return None
        return self.n_epochs - done if self.n_epochs > done else self.n_epochs

    @property
    def acts_asynchronously(self) -> bool:
        """Environments act by themselves while the policy learns; such a run never repeats bit by bit."""
        return False

    @property
    def evaluator(self) -> RolloutEvaluatorConfig:
        """The evaluation in force, from either spelling."""
        given = self.rollout_evaluator
        deterministic = given.deterministic if self.deterministic_eval is None else self.deterministic_eval
        n_episodes = given.n_episodes if self.eval_repeats is None else self.eval_repeats
        return replace(given, n_episodes=n_episodes, deterministic=deterministic)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OptimizerConfig:
    """How a gradient becomes a step."""

    kind: Literal["adam", "rmsprop", "sgd"] = "adam"
    """Adam; RMSprop as torch has it, not centred and without momentum; or the gradient times ``lr``."""
    eps: Annotated[float, Field(gt=0.0)] = 1e-5
    """Added to the root of the mean square, which divides; 1e-5 as in Andrychowicz et al. 2021 (arXiv:2006.05990)."""
    beta1: Decay = 0.9
    """Adam's memory of gradients."""
    beta2: Decay = 0.999
    """Adam's memory of their squares."""
    alpha: Decay = 0.99
    """RMSprop's memory of squares."""
    momentum: Decay = 0.0
    """Part of its last step that ``sgd`` takes again."""
    weight_decay: Coefficient = 0.0
    """Added to the gradient, after clipping, times the weights."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GradientConfig(FitConfig):
    """Settings of algorithms that learn by gradients."""

    LEARNS_FROM_EPISODES: ClassVar[bool] = False
    """Whether it learns from recorded episodes, which ``dataset.run`` then names."""

    lr: Annotated[float, Field(gt=0.0)] = 1e-3
    """Step size at the start."""
    lr_schedule: Schedule = "linear"
    """``linear`` falls to 0 over ``n_epochs``."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """How a gradient becomes a step."""
    max_grad_norm: OptionalPositiveFloat = 0.5
    """L2 limit on the gradient of all that learns together; null does not clip."""
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    """Where networks that torch computes learn and act in training; ``auto`` is ``cuda`` where torch sees one. Dense
    networks stay on the CPU, where numpy computes them, and so do loaded policies."""

    @property
    def model_needs(self) -> ModelNeeds:
        """What the algorithm asks of a model."""
        return ModelNeeds()

    def lr_factor(self, progress: float) -> float:
        """What step sizes are multiplied by where this part of the run is done, in [0, 1)."""
        return factor(self.lr_schedule, progress)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LearningConfig(GradientConfig):
    """Settings of algorithms that act in environments and learn by gradients."""

    n_rollout_steps: RolloutSteps = 128
    """Ticks per update, in each parallel environment."""
    total_env_steps: OptionalPositiveInt = None
    """Length of the run in ticks of all environments together; ``n_epochs`` then follows from it, rounded up."""
    gamma: Fraction = 0.99
    """Discount per step of environment time."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ActorCriticConfig(LearningConfig):
    """Settings that A2C, PPO and IMPALA share."""

    critic_lr: OptionalPositiveFloat = None
    """Step size of the critic at the start, whose schedule is that of ``lr``; null takes ``lr``. What policy and critic
    share learns with ``lr``."""
    gae_lambda: Fraction = 0.95
    """λ of the generalised advantage estimate; 1 is Monte Carlo with a bootstrap."""
    policy_loss_coef: Coefficient = 1.0
    """Weight of the policy's loss."""
    value_loss_coef: Coefficient = 0.5
    """Weight of the critic's loss, ½ (V − R)²: twice the ``vf_coef`` of libraries that leave out the ½."""
    entropy_coef: Coefficient = 0.0
    """Weight of the entropy bonus."""
    entropy_coef_schedule: Schedule = "constant"
    """``linear`` falls to 0 over ``n_epochs``."""
    normalize_advantages: bool = True
    """Give the advantages of each gradient step mean 0 and deviation 1."""
    critic_burn_in_epochs: NonNegativeInt = 0
    """Epochs at the start in which only the critic learns; of what it shares with the policy, its own part alone."""
    bptt_length: OptionalPositiveInt = None
    """Steps of an agent after which gradients through the state of a network end; null is the length of the rollout."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OffPolicyConfig(LearningConfig):
    """Settings of algorithms that learn from replay."""

    epoch_length: PositiveInt = 64
    """Updates per epoch; an evaluation follows the last one."""
    n_rollout_steps: RolloutSteps = 1
    """Ticks per update, in each parallel environment."""
    n_gradient_steps: OptionalPositiveInt = None
    """Gradient steps per update; null (or 0) takes one per environment step."""
    batch_size: PositiveInt = 256
    """Transitions per gradient step."""
    replay_capacity: ReplayCapacity = 100_000
    """Transitions that are remembered, over all environments."""
    n_warmup_steps: NonNegativeInt = 100
    """Environment steps at the start, after which learning begins."""
    uniform_warmup: bool = True
    """Act uniformly until then; false acts as the policy explores."""
    n_step_returns: Annotated[int, Field(ge=1, le=1000)] = 1
    """Steps whose rewards are added up before the value of what follows."""
    tau: Annotated[float, Field(gt=0.0, le=1.0)] = 0.005
    """How far the target networks follow at a time; 1 copies."""
    lr_schedule: Schedule = "constant"
    """``linear`` falls to 0 over ``n_epochs``."""
    max_grad_norm: OptionalPositiveFloat = None
    """L2 limit on the gradient of all that learns together; null does not clip."""

    def replay(self) -> Replay:
        """An empty memory."""
        return Replay(self.replay_capacity, gamma=self.gamma, n_steps=self.n_step_returns)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TwinCriticsConfig(OffPolicyConfig):
    """Settings that SAC and TD3 share."""

    critic_lr: OptionalPositiveFloat = None
    """Step size of the critics at the start, whose schedule is that of ``lr``; null takes ``lr``."""


def factor(schedule: Schedule, progress: float) -> float:
    """What a setting is multiplied by where this part of the run is done, in [0, 1); ``linear`` falls to 0."""
    return 1.0 - progress if schedule == "linear" else 1.0


def loss_weights(config: ActorCriticConfig, epoch: int, progress: float) -> tuple[float, float, float]:
    """Weights of policy loss, value loss and entropy bonus in this epoch (0 is the first), at this part of the run."""
    if epoch < config.critic_burn_in_epochs:
        return 0.0, config.value_loss_coef, 0.0
    entropy_coef = config.entropy_coef * factor(config.entropy_coef_schedule, progress)
    return config.policy_loss_coef, config.value_loss_coef, entropy_coef
