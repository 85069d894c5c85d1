"""Episodes of a training: what its policy does before it learns, at scheduled checkpoints, and at its best.

The same seeded episodes are played with every policy, in environments of their own, so that no number of the training
changes. Where no environment may live beside those of training, all is played afterwards. A film that
fails is told once and left out.
"""

from dataclasses import replace
from typing import Any, Final, Literal, TypeAlias

from maze_core.agent import Agent, load_agent
from maze_core.checkpoint import Checkpoint
from maze_core.config.schema import RunConfig
from maze_core.errors import USER_CODE_ERRORS, reason_of
from maze_core.metrics import Reporter, SilentReporter
from maze_core.notices import Notices
from maze_core.runners.config import rollout_tree

Moment: TypeAlias = Literal["begin", "scheduled", "best", "last"]
"""Which policy of a training: as it began, of a scheduled checkpoint, the best one, or the last one."""
ACTS: Final = "acts"
"""What comes back with a checkpoint that was stripped: a policy that acts, and no training."""
_ACTING: Final = ("policy/", "critic/", "wrappers/", "recorded/")


class Films(SilentReporter):
    """Plays the episodes of one call of training; subclasses say where they go."""

    def __init__(
        self, config: RunConfig, n_episodes: int, reporter: Reporter, *, record: bool = False
    ) -> None:
        """Play ``n_episodes`` with each policy; ``reporter`` is told that it is done."""
        tree = rollout_tree(config.tree, n_episodes=n_episodes, deterministic=True, record_trajectory=record)
        self.playing = RunConfig(mode="rollout", tree=tree, objects=config.objects)
        self.waits = False
        """Nothing may be played before training has closed its environments."""
        self._reporter = reporter
        self._due: list[tuple[Moment, Checkpoint]] = []
        self._notices = Notices()

    def begin(self, checkpoint: Checkpoint, moment: Moment = "begin") -> None:
        """Film the policy that training begins or goes on with."""
        self._add(moment, checkpoint)

    def checkpoint(self, checkpoint: Checkpoint, **details: Any) -> None:
        """Film a scheduled one."""
        if details["kind"] == "scheduled":
            self._add("scheduled", checkpoint)

    def end(self, best: Checkpoint | None, last: Checkpoint | None = None) -> None:
        """Training is over: film what still waits, and the policies that it ended with."""
        self.waits = False
        if last is not None and last is not best:
            self._due.append(("last", acting_part(last)))
        if best is not None:
            self._due.append(("best", acting_part(best)))
        self._film()

    def wants(self, moment: Moment, epoch: int) -> bool:
        """Whether this policy is filmed, before the end."""
        return True

    def shoot(self, agent: Agent, checkpoint: Checkpoint, moment: Moment, epoch: int) -> None:
        """Play the episodes of one policy."""
        raise NotImplementedError

    def _add(self, moment: Moment, checkpoint: Checkpoint) -> None:
        if self.wants(moment, epoch_of(checkpoint)):
            self._due.append((moment, acting_part(checkpoint)))
        if not self.waits:
            self._film()

    def _film(self) -> None:
        due, self._due = self._due, []
        for moment, checkpoint in due:
            self._reporter.phase("filming")
            agent = load_agent(checkpoint, objects=self.playing.objects)
            try:
                self.shoot(agent, checkpoint, moment, epoch_of(checkpoint))
            except USER_CODE_ERRORS as error:
                told = f"The film of epoch {epoch_of(checkpoint)} ({moment}) failed: {reason_of(error)}"
                self._notices.say("films", f"{told} The run goes on; another film that fails is not told.")


def acting_part(checkpoint: Checkpoint) -> Checkpoint:
    """What of a checkpoint acts and judges: no training goes on from it."""
    tensors = {name: array for name, array in checkpoint.tensors.items() if name.startswith(_ACTING)}
    return replace(checkpoint, identity={**checkpoint.identity, "fidelity": ACTS}, tensors=tensors)


def epoch_of(checkpoint: Checkpoint) -> int:
    """Epochs that a checkpoint's policy has learnt for."""
    return int(checkpoint.identity["counters"]["epoch"])


def spread(number: int, most: int) -> int:
    """Of so many policies one by one, every how manieth is kept so that no more than ``most`` are: a power of two."""
    every = 1
    while number > most * every:
        every *= 2
    return every
