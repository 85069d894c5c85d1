"""ES: evolution strategies (Salimans et al. 2017, arXiv:1703.03864).

One update: pairs of policies, whose weights are perturbed by ε and by -ε, play an episode each; the weights move along
the ε, by how their returns rank. What perturbs a pair and what its episodes begin with depends on (seed, update, pair)
alone, so neither the processes of the environments nor their number change it, nor the order in which episodes end.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from maze_core.checkpoint import copied, prefixed, section
from maze_core.objectives.evolution import centred_ranks, pair_weights
from maze_core.seeding import Stream, derived_seed, generator
from maze_core.trainers.es_config import ESAlgorithmConfig
from maze_core.trainers.fit import Parts, UpdateReport, mean_metrics
from maze_core.trainers.optim import GradientStep
from maze_core.trainers.population import Member, Played, Population
from maze_core.types import Array, FloatArray, Tree


class ES:
    """The trainer of :class:`ESAlgorithmConfig`.

    The networks of the policy learn. What stands beside them, such as the deviation of a Gaussian, does not matter to
    the likeliest action and stays as it is, and so do frozen parameters of modules.
    """

    def __init__(self, config: ESAlgorithmConfig, parts: Parts) -> None:
        self.config, self.policy, self.env, self._parts = config, parts.policy, parts.env, parts
        networks = {actor.prefix: actor.logits for _, actor in self.policy.named()}
        self.optimizer = GradientStep(
            networks, lr=config.lr, max_grad_norm=config.max_grad_norm, optimizer=config.optimizer
        )
        self._population = Population(
            self.env,
            self.policy,
            self.optimizer,
            self._member,
            max_episode_steps=config.max_episode_steps,
        )
        self.n_updates = 0
        self._seed: int
        """Of the episodes until the next reset."""

    def reset_envs(self, seeds: Sequence[int]) -> None:
        """See :class:`~maze_core.trainers.fit.Trainer`."""
        self.env.reset(seeds)
        self._seed = seeds[0]

    def update(self, *, epoch: int, progress: float) -> UpdateReport | None:
        """See :class:`~maze_core.trainers.fit.Trainer`."""
        played = self._play()
        if played is None:
            return None
        config, step = self.config, self.optimizer
        step.lr = lr = config.lr * config.lr_factor(progress)
        fitness = np.array([episode.fitness for episode in played]).reshape(-1, 2)
        np.multiply(step.flat, config.l2_penalty, out=step.gradient)
        step.gradient *= step.learns
        for pair, weight in enumerate(pair_weights(centred_ranks(fitness))):
            step.gradient -= np.float32(weight) * self._noise(pair)
        metrics = mean_metrics([{"train/grad_norm": step.step()}])
        step.check_finite()
        self.n_updates += 1
        lengths = [episode.length for episode in played]
        return UpdateReport(
            env_steps=sum(lengths),
            metrics=metrics | {"train/learning_rate": lr, "train/n_episodes": len(played)},
            episode_returns=[episode.episode_return for episode in played],
            episode_lengths=lengths,
        )

    def _play(self) -> list[Played] | None:
        """Episodes of both of each pair, side by side: as many as were asked for, and then until the steps are."""
        played: list[Played] = []
        n_pairs = -(-self.config.n_rollouts_per_update // 2)
        while n_pairs:
            members = range(len(played), len(played) + 2 * n_pairs)
            more = self._population.play(members, is_first=not played, cancelled=self._parts.cancelled)
            if more is None:
                return None
            played += more
            n_steps = sum(episode.length for episode in played)
            missing = max(self.config.n_timesteps_per_update - n_steps, 0)
            n_pairs = -(-missing * len(played) // (2 * n_steps))  # by the mean length so far
        return played

    def _member(self, number: int) -> Member:
        """Both of a pair begin alike, so that their difference is that of their weights."""
        pair, is_opposite = divmod(number, 2)
        scale = np.float32(-self.config.noise_stddev if is_opposite else self.config.noise_stddev)
        seed = derived_seed(self._seed, Stream.TRAIN_ENV, self.n_updates, pair)
        return Member(self.optimizer.flat + scale * self._noise(pair), seed)

    def _noise(self, pair: int) -> FloatArray:
        """ε of a pair, standard normal."""
        rng = generator(self._parts.agent_seed, Stream.PERTURBATIONS, self.n_updates, pair)
        learns = self.optimizer.learns
        return rng.standard_normal(learns.size, np.float32) * learns

    def state_dict(self) -> tuple[Tree, dict[str, Array]]:
        """See :class:`~maze_core.trainers.fit.Trainer`."""
        arrays = copied(self.policy.state_dict(), "policy")
        return {"n_updates": self.n_updates}, arrays | prefixed(self.optimizer.state_dict(), "optimizer")

    def load_state_dict(self, tree: Tree, arrays: Mapping[str, Array]) -> None:
        """See :class:`~maze_core.trainers.fit.Trainer`."""
        self.policy.load_state_dict(section(arrays, "policy"))
        self.optimizer.load_state_dict(section(arrays, "optimizer"))
        self.n_updates = tree["n_updates"]

    def close(self) -> None:
        """See :class:`~maze_core.trainers.fit.Trainer`."""
        self.env.close()
