"""Settings of IMPALA; the YAML twin is ``conf/algorithm/impala.yaml``."""

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from maze_core.config.settings import (
    STRICT,
    OptionalPositiveFloat,
    OptionalPositiveInt,
    PositiveInt,
    RolloutSteps,
    dataclass,
)
from maze_core.trainers.config import ActorCriticConfig, Coefficient, Fraction

if TYPE_CHECKING:
    from maze_core.trainers.fit import Parts
    from maze_core.trainers.impala import Impala


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ImpalaAlgorithmConfig(ActorCriticConfig):
    """Actor-learner with importance weights: learns from what older weights did (Espeholt et al. 2018)."""

    n_epochs: OptionalPositiveInt = 60
    """Epochs to train; the learning-rate schedule ends here, and starts anew when more are asked for."""
    epoch_length: PositiveInt = 100
    """Updates per epoch; an evaluation follows the last one."""
    n_rollout_steps: RolloutSteps = 8
    """Ticks per update, in each parallel environment."""
    mode: Literal["lockstep", "asynchronous"] = "lockstep"
    """``lockstep`` collects and learns in turn, and repeats bit by bit; ``asynchronous`` learns while the processes of
    the environments act by themselves, and needs them (``runner=local``)."""
    queue_out_of_sync_factor: Annotated[int, Field(ge=0, le=100)] = 1
    """How many updates old the weights are that act, exactly so in lockstep; asynchronous, at least
    1, how many rollouts wait or are under way at most, times the number of processes and over all of them together."""
    vtrace_clip_rho_threshold: OptionalPositiveFloat = 1.0
    """ρ̄, the largest importance weight of an error of the critic; null (or 0) does not clip."""
    vtrace_clip_pg_rho_threshold: OptionalPositiveFloat = 1.0
    """ρ̄ of the policy gradient; null (or 0) does not clip."""
    vtrace_clip_c_threshold: OptionalPositiveFloat = 1.0
    """c̄, the largest weight with which a later error reaches back; null (or 0) does not clip."""
    gae_lambda: Fraction = 0.95
    """λ of V-trace, by which each c is multiplied; 1 is the paper's, and the n-step return where nothing is clipped."""
    entropy_coef: Coefficient = 0.01
    """Weight of the entropy bonus."""

    @model_validator(mode="after")
    def _has_a_queue(self) -> Self:
        if self.acts_asynchronously and not self.queue_out_of_sync_factor:
            raise ValueError("queue_out_of_sync_factor must be at least 1 where mode is asynchronous.")
        return self

    @property
    def acts_asynchronously(self) -> bool:
        """See :class:`~maze_core.trainers.config.FitConfig`."""
        return self.mode == "asynchronous"

    def build(self, parts: "Parts") -> "Impala":
        """The trainer of these settings."""
        from maze_core.trainers.impala import Impala

        return Impala(self, parts)
