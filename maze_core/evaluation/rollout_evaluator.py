"""An evaluation by hand: a policy plays a given environment, whose wrappers may gather statistics meanwhile.

    evaluator = RolloutEvaluator(LogStatsWrapper.wrap(GymMazeEnv("CartPole-v1"), logging_prefix="eval"), n_episodes=10)
    evaluator.evaluate(rc.policy).mean_return

The environment emits raw observations or processed ones, and the policy gets what it was trained on: an agent such as
``rc.policy`` passes raw ones through the wrappers of its training, and takes processed ones as they are.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from maze_core.config.schema import check_seed
from maze_core.config.settings import truth, whole_number
from maze_core.envs.env_spaces import EnvSpaces, refuse_other_spaces
from maze_core.envs.maze_env import MazeEnv
from maze_core.envs.vector import VectorEnv
from maze_core.envs.wrappers.stepping import has_layer
from maze_core.envs.wrappers.wrapper import WrappedVectorEnv, Wrapper, acting_wrappers, bind_wrappers
from maze_core.errors import InvalidSpecificationError, Problem, ProblemList
from maze_core.evaluation.evaluate import EvalReport, evaluate
from maze_core.rollout.episodes import Policy
from maze_core.rollout.user_policy import as_policy
from maze_core.seeding import EpisodeSeeds, Stream, derived_seed, draw_seed


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
        max_episode_steps: int | None = 10_000,
    ) -> None:
        """Take the environment; it stays the caller's, to read its statistics and to close.

        Args:
            eval_env: what is played, wrapped or not.
            n_episodes: episodes per evaluation, ≥ 1.
            model_selection: told the mean return of every evaluation, by ``update`` or by being called.
            deterministic: the most likely action instead of a sample.
            seed: seeds the episodes and the samples; None draws one. It is the attribute ``seed``.
            max_episode_steps: flat steps after which an episode is cut; None or 0 leaves it to the environment.

        Raises:
            InvalidSpecificationError: an argument is not valid.
        """
        if not isinstance(eval_env, MazeEnv | VectorEnv):
            raise _problem(
                "eval_env", f"takes a MazeEnv, such as GymMazeEnv('CartPole-v1'), not {_a(eval_env)}."
            )
        found = ProblemList()
        with found.collecting():
            n_episodes = whole_number(n_episodes, "n_episodes")
        with found.collecting():
            max_episode_steps = whole_number(max_episode_steps or 0, "max_episode_steps", least=0)
        with found.collecting():
            deterministic = truth(deterministic, "deterministic")
        if not (model_selection is None or callable(_note(model_selection))):
            what = "an object with update(mean_return), or a function of it"
            found.add("model_selection", f"takes {what}, not {_a(model_selection)}.")
        if seed is not None:
            check_seed(seed, "seed", found)
        found.raise_if_any()
        self.eval_env = eval_env
        self.n_episodes = n_episodes
        self.model_selection = model_selection
        self.deterministic = deterministic
        self.seed = draw_seed() if seed is None else seed
        self.max_episode_steps = max_episode_steps or None

    def evaluate(self, policy: Any) -> EvalReport:
        """Play the episodes and summarise them.

        Args:
            policy: an agent, such as ``rc.policy``; a ``RunContext``; or an object with ``act``, as
                :mod:`maze_core.rollout.user_policy` says, which gets the environment's observations as they are.

        Returns:
            Mean, deviation, 95 % confidence interval, and the return, length and seed of each episode.

        Raises:
            InvalidSpecificationError: the policy cannot act, or was trained in an environment with other spaces.
            SpaceMismatchError: a policy of one's own gave what is no action.
            EnvError: the environment broke its contract.
        """
        env = self.eval_env.vector_env if isinstance(self.eval_env, MazeEnv) else self.eval_env
        acting, wrappers = _acting(policy, env)
        report = evaluate(
            acting,
            WrappedVectorEnv(env, wrappers) if wrappers else env,
            EpisodeSeeds(self.seed, Stream.EVAL_ENV, self.n_episodes),
            deterministic=self.deterministic,
            action_seed=derived_seed(self.seed, Stream.ACTIONS),
            max_episode_steps=self.max_episode_steps,
        )
        if self.model_selection is not None:
            _note(self.model_selection)(report.mean_return)
        return report


def _acting(policy: Any, env: VectorEnv) -> tuple[Policy, Sequence[Wrapper]]:
    """What acts, and the wrappers through which it sees this environment."""
    if hasattr(policy, "env_factory"):  # a RunContext
        policy = policy.policy
    if hasattr(policy, "wrappers"):  # an agent
        is_processed = isinstance(env, WrappedVectorEnv) and env.is_processed
        wrappers = [] if is_processed else acting_wrappers(policy.wrappers)
        if has_layer(env):  # it takes the steps of the wrappers already
            wrappers = [wrapper for wrapper in wrappers if "stepping" not in wrapper.overridden]
        _check_spaces(policy, env, is_processed=is_processed)
        return policy.policy, wrappers
    if hasattr(policy, "act"):
        return as_policy(policy, env.action_spaces), []
    raise _problem("policy", f"takes an agent, such as rc.policy, not {_a(policy)}.")


def _check_spaces(agent: Any, env: VectorEnv, *, is_processed: bool) -> None:
    """Refuse an environment with other spaces than the one the agent was trained in, or than its policy sees."""
    trained = agent
    if is_processed:
        seen, done = bind_wrappers(agent.wrappers, agent.observation_spaces, agent.action_spaces)
        trained = EnvSpaces(observation_spaces=seen, action_spaces=done, agent_counts=agent.agent_counts)
    refuse_other_spaces(trained, env, "eval_env")


def _note(model_selection: Any) -> Any:
    """What takes the mean return."""
    return getattr(model_selection, "update", model_selection)


def _a(value: object) -> str:
    return f"a {type(value).__name__}"


def _problem(path: str, message: str) -> InvalidSpecificationError:
    return InvalidSpecificationError([Problem(path=path, message=message)])
