"""State critics in torch: V(s), per sub-step or shared by all of them."""

from collections.abc import Mapping

from torch import Tensor, nn

from maze_core.models.networks import GraphNetwork, ModuleNetwork, TensorDict
from maze_core.types import StepKey


class TorchCritic(nn.Module):
    """Values of observations, one network per sub-step, or one for all of them."""

    def __init__(
        self,
        networks: Mapping[StepKey, GraphNetwork | ModuleNetwork],
        fill: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Take the networks.

        Args:
            networks: sub-step → its value network; the same object for several shares it.
            fill: observation → a row ``[1, ...]`` that stands for it at sub-steps which do not show it; in the
                order in which a network sees them.
        """
        super().__init__()
        self.networks = nn.ModuleList(dict.fromkeys(networks.values()))
        self._by_key = dict(networks)
        self._fill = dict(fill or {})

    def values(self, step_key: StepKey, observations: TensorDict, agent_id: Tensor | None = None) -> Tensor:
        """V(s), ``[N]`` float32, for observations ``[N, ...]``; the agents of a sub-step share one."""
        if self._fill:
            shown = next(iter(observations.values()))
            observations = {
                name: observations[name]
                if name in observations
                else row.to(shown.device).repeat_interleave(len(shown), 0)
                for name, row in self._fill.items()
            }
        return self._by_key[step_key].evaluate(observations).squeeze(1)
