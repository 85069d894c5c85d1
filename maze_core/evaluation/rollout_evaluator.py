"""An evaluation by hand: a policy plays a given environment, whose wrappers may gather statistics meanwhile.

    evaluator = RolloutEvaluator(LogStatsWrapper.wrap(GymMazeEnv("CartPole-v1"), logging_prefix="eval"), n_episodes=10)
    evaluator.evaluate(rc.policy).mean_return

The environment emits raw observations or processed ones, and the policy gets what it was trained on: an agent such as
``rc.policy`` passes raw ones through the wrappers of its training, and takes processed ones as they are.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from maze_core.envs.maze_env import MazeEnv
from maze_core.envs.vector import VectorEnv
from maze_core.envs.wrappers.stack import acting_wrappers
from maze_core.envs.wrappers.wrapper import WrappedVectorEnv, Wrapper
from maze_core.errors import InvalidSpecificationError, Problem
from maze_core.evaluation.evaluate import EvalReport, evaluate
from maze_core.rollout.episodes import Policy
from maze_core.seeding import Stream, derived_seed, draw_seed, env_seeds


class ModelSelection(Protocol):
    """Hears of every evaluation, to keep the best model for instance."""

    def update(self, mean_return: float) -> object:
        """Take the mean return of an evaluation."""
        ...


class RolloutEvaluator:
    """Judges policies on the same seeded episodes, as often as asked. Not thread-safe: it steps one environment."""

    def __init__(
        self,
        eval_env: MazeEnv | VectorEnv,
        n_episodes: int,
        model_selection: ModelSelection | Callable[[float], object] | None = None,
        deterministic: bool = True,
        *,
        seed: int | None = None,
        max_episode_steps: int | None = None,
    ) -> None:
        """Take the environment; it stays the caller's, to read its statistics and to close.

        Args:
            eval_env: what is played, wrapped or not.
            n_episodes: episodes per evaluation, ≥ 1.
            model_selection: told the mean return of every evaluation, by ``update`` or by being called.
            deterministic: the most likely action instead of a sample.
            seed: seeds the episodes and the samples; None draws one. It is the attribute ``seed``.
            max_episode_steps: flat steps after which an episode is cut; None leaves it to the environment.

        Raises:
            InvalidSpecificationError: an argument is not valid.
        """
        if not isinstance(eval_env, MazeEnv | VectorEnv):
            raise _problem(
                "eval_env", f"takes a MazeEnv, such as GymMazeEnv('CartPole-v1'), not {_a(eval_env)}."
            )
        if isinstance(n_episodes, bool) or not isinstance(n_episodes, int) or n_episodes < 1:
            raise _problem("n_episodes", f"{n_episodes!r} is not a whole number of at least 1.")
        self.eval_env = eval_env
        self.n_episodes = n_episodes
        self.model_selection = model_selection
        self.deterministic = deterministic
        self.seed = draw_seed() if seed is None else seed
        self.max_episode_steps = max_episode_steps

    def evaluate(self, policy: Any) -> EvalReport:
        """Play the episodes and summarise them.

        Args:
            policy: an agent, such as ``rc.policy``; a ``RunContext``; or a policy of its own, which gets the
                environment's observations as they are.

        Returns:
            Mean, deviation, 95 % confidence interval, and the return, length and seed of each episode.

        Raises:
            InvalidSpecificationError: the policy cannot act, or was trained in an environment with other spaces.
            EnvError: the environment broke its contract.
        """
        env = self.eval_env.vector_env if isinstance(self.eval_env, MazeEnv) else self.eval_env
        acting, wrappers = _acting(policy, env)
        report = evaluate(
            acting,
            WrappedVectorEnv(env, wrappers) if wrappers else env,
            env_seeds(self.seed, Stream.EVAL_ENV, self.n_episodes),
            deterministic=self.deterministic,
            action_seed=derived_seed(self.seed, Stream.ACTIONS),
            max_episode_steps=self.max_episode_steps,
        )
        if self.model_selection is not None:
            note: Any = getattr(self.model_selection, "update", self.model_selection)
            note(report.mean_return)
        return report


def _acting(policy: Any, env: VectorEnv) -> tuple[Policy, Sequence[Wrapper]]:
    """What acts, and the wrappers through which it sees this environment."""
    if hasattr(policy, "env_factory"):  # a RunContext
        policy = policy.policy
    if hasattr(policy, "wrappers"):  # an agent
        is_processed = isinstance(env, WrappedVectorEnv) and env.is_processed
        wrappers = [] if is_processed else acting_wrappers(policy.wrappers)
        _check_spaces(policy, env, is_processed=is_processed)
        return policy.policy, wrappers
    if hasattr(policy, "acting"):  # a policy in training
        return policy.acting(), []
    if hasattr(policy, "act"):
        return policy, []
    raise _problem("policy", f"takes an agent, such as rc.policy, not {_a(policy)}.")


def _check_spaces(agent: Any, env: VectorEnv, *, is_processed: bool) -> None:
    """Refuse an environment with other names or shapes than the one the agent was trained in."""
    if is_processed:
        return
    trained, given = _shapes(agent.observation_spaces), _shapes(env.observation_spaces)
    if trained != given:
        message = f"shows {given}, the policy was trained on {trained}."
        raise _problem("eval_env", message)


def _shapes(spaces: Any) -> dict[Any, dict[str, tuple[int, ...]]]:
    return {key: {name: leaf.shape for name, leaf in space.items()} for key, space in spaces.items()}


def _a(value: object) -> str:
    return f"a {type(value).__name__}"


def _problem(path: str, message: str) -> InvalidSpecificationError:
    return InvalidSpecificationError([Problem(path=path, message=message)])
