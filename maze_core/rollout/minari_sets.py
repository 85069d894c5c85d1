"""Recorded episodes as a data set of Minari (Farama), and such data sets as recorded episodes.

Minari stores what it is given. So what goes out is checked before anything is written, read back and compared, and
nothing is left where that fails; what comes in is checked episode by episode: shapes, dtypes and numbers by the spaces
of the set, rewards, and where episodes end. An episode that was reset in its middle has its last step truncated there;
one without any end is refused. Rewards are float64 here. Minari's sets have one agent and no sub-steps.
"""

import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any, Final

import gymnasium
import numpy as np
from gymnasium import spaces

from maze_core.data.flat_space import (
    FlatSpace,
    SpaceReader,
    action_layout,
    form_of,
    is_flat,
    observation_layout,
    put_together,
)
from maze_core.data.values import LeafReader
from maze_core.envs.env_spaces import EnvSpaces, describe_spaces, described_spaces
from maze_core.errors import MazeError, SpaceMismatchError
from maze_core.rollout.datasets import EpisodeSet, RecordedEpisode, refuse_lengths
from maze_core.rollout.recording import RecordingError, Trajectory
from maze_core.types import JSON, Array, StepKey, Tree

PREFIX: Final = "minari:"
"""What a place begins with that is a data set of Minari."""
_GYM = "maze_core.GymEnvConfig"
_SPACES = "maze_spaces"
"""Where a set of ours says its spaces in their order, which Minari sorts by names as it reads them."""


def write_minari(dataset_id: str, given: EpisodeSet, **facts: Any) -> None:
    """Make a data set on this machine, whole or not at all.

    Args:
        dataset_id: such as ``pole/expert-v0``.
        given: the episodes, with their spaces.
        **facts: for people, as ``minari.create_dataset_from_buffers`` takes them: ``author``, ``algorithm_name``, …

    A set has no place for log-probabilities and values of episodes, which stay out of it.

    Raises:
        RecordingError: the set is there already or its name is none, or the episodes cannot be said in one.
    """
    minari = _minari()
    _refuse_name(minari, dataset_id)
    observations, actions = _spaces(given)
    for i, episode in enumerate(given.episodes):
        refuse_lengths(episode, i)
    buffers = [_buffer(minari, episode, i) for i, episode in enumerate(given.episodes)]
    place = minari.storage.local.get_dataset_path(dataset_id)
    namespaces = set(minari.namespace.list_local_namespaces())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of facts that nobody gave
            made = minari.create_dataset_from_buffers(
                dataset_id,
                buffers,
                env=_env_spec(given.env),
                observation_space=observations,
                action_space=actions,
                jpeg_encoding=False,  # which would change pictures
                **facts,
            )
        made.storage.update_metadata({_SPACES: list(given.spaces or ())})
        back = read_minari(dataset_id)
        digests = [[x.content_sha256 for x in each.trajectories] for each in (given, back)]
        if digests[0] != digests[1]:
            raise RecordingError(f"{dataset_id} does not give back the episodes that went in.")
    except BaseException as error:
        shutil.rmtree(place, ignore_errors=True)
        for namespace in set(minari.namespace.list_local_namespaces()) - namespaces:
            minari.namespace.delete_namespace(namespace)
        if isinstance(error, MazeError) or not isinstance(error, Exception):
            raise
        raise RecordingError(f"Minari cannot store {dataset_id}: {error!r}.") from error


def read_minari(dataset_id: str) -> EpisodeSet:
    """The episodes of a data set on this machine, each checked.

    Raises:
        RecordingError: there is no such set, or an episode is not what its spaces say; the message names it.
    """
    minari = _minari()
    try:
        found = minari.load_dataset(dataset_id)
    except (OSError, ValueError, KeyError) as error:
        message = f"There is no data set {dataset_id} on this machine ({error}); minari download {dataset_id} gets one."
        raise RecordingError(message) from error
    try:
        layouts = observation_layout(found.observation_space), action_layout(found.action_space)
    except MazeError as error:
        raise RecordingError(f"{dataset_id}: {error}") from error
    seen, done = _ordered(found.storage.metadata.get(_SPACES), *layouts)
    readers = SpaceReader(seen, "observation"), SpaceReader(done, "action")
    is_plain = is_flat(seen) and is_flat(done)
    forms: dict[StepKey, tuple[JSON, JSON]] = {} if is_plain else {0: (form_of(seen), form_of(done))}
    seeds = [facts.get("seed") for facts in found.storage.get_episode_metadata(found.episode_indices)]
    episodes = []
    for episode, seed in zip(found.iterate_episodes(), seeds, strict=True):
        try:
            trajectory = _trajectory(episode, readers, forms)
        except (SpaceMismatchError, RecordingError, ValueError, TypeError) as error:
            place = getattr(error, "pointer", "")
            where = f"{dataset_id}, episode {episode.id}" + (f" at {place}" if place else "")
            raise RecordingError(f"{where}: {str(error).rstrip('.')}.") from error
        episodes.append(RecordedEpisode(trajectory=trajectory, seed=None if seed is None else int(seed)))
    if not episodes:
        raise RecordingError(f"{dataset_id} has no episodes.")
    described = describe_spaces(
        EnvSpaces(observation_spaces={0: seen}, action_spaces={0: done}, agent_counts={0: 1})
    )
    return EpisodeSet(episodes=episodes, spaces=described, env=_env_node(found.env_spec))


def _minari() -> Any:
    try:
        import minari
        import minari.namespace
        import minari.storage.local

        if find_spec("h5py") is None:  # in which it stores them
            raise ImportError("h5py is not installed")
    except ImportError as error:
        raise RecordingError(
            f"Data sets of Minari need it: pip install 'maze-service[minari]' ({error})."
        ) from error
    place = os.environ.get("MINARI_DATASETS_PATH", "/")
    if not os.path.isabs(place):
        raise RecordingError(f"MINARI_DATASETS_PATH is {place}: give an absolute path, as Minari needs it.")
    return minari


# ------------------------------------------------------------------ out


def _refuse_name(minari: Any, dataset_id: str) -> None:
    try:
        minari.dataset.minari_dataset.parse_dataset_id(dataset_id)
    except (ValueError, TypeError) as error:  # a version that is missing
        message = f"{dataset_id!r} is no name of a data set: write namespace/name-v0, such as pole/expert-v0"
        raise RecordingError(f"{message}; a namespace has two characters or more.") from error
    if minari.storage.local.get_dataset_path(dataset_id).exists():
        raise RecordingError(f"The data set {dataset_id} is there already: raise its version, or delete it.")


def _spaces(given: EpisodeSet) -> tuple[spaces.Space[Any], spaces.Space[Any]]:
    """The environment's own spaces."""
    found = given.env_spaces
    if found is None:
        raise RecordingError("A data set of Minari has spaces, and those of the episodes are not known.")
    counts = [found.agent_counts.get(key, 1) for key in found.observation_spaces]
    if counts != [1] or any(episode.trajectory.actors for episode in given.episodes):
        message = (
            "A data set of Minari has one agent and no sub-steps: write these episodes as .parquet or .npz."
        )
        raise RecordingError(message)
    seen, done = (next(iter(part.values())) for part in (found.observation_spaces, found.action_spaces))
    return _own(form_of(seen), seen), _own(form_of(done), done)


def _own(form: JSON, leaves: spaces.Dict) -> spaces.Space[Any]:
    """The space whose leaves these are."""
    if isinstance(form, str):
        return leaves[form]
    if form is None or "text" in form:
        raise RecordingError(
            "An observation is a text or was left out, so the environment's own space is not known."
        )
    if "tuple" in form:
        return spaces.Tuple([_own(inner, leaves) for inner in form["tuple"]])
    parts = [(key, _own(inner, leaves)) for key, inner in form["dict"] if inner is not None]
    if not all(isinstance(key, str) for key, _ in parts):
        raise RecordingError("Minari has texts as keys of a Dict, and this space has numbers.")
    return spaces.Dict(parts)


def _buffer(minari: Any, episode: RecordedEpisode, number: int) -> Any:
    recorded = episode.trajectory
    (key,) = recorded.observations
    seen = {
        name: np.concatenate([values, recorded.final_observation[name][None]])
        for name, values in recorded.observations[key].items()
    }
    forms = recorded.forms.get(key, (None, None))
    n = len(recorded.rewards)
    ends = [np.zeros(n, np.bool_), np.zeros(n, np.bool_)]
    ends[0][-1], ends[1][-1] = recorded.terminated, recorded.truncated
    return minari.data_collector.EpisodeBuffer(
        id=number,
        seed=episode.seed,
        observations=_in_form(forms[0], seen),
        actions=_in_form(forms[1], recorded.actions[key]),
        rewards=recorded.rewards,
        terminations=ends[0],
        truncations=ends[1],
        infos={},
    )


def _in_form(form: JSON, leaves: Mapping[str, Array]) -> Any:
    if form is not None:
        return put_together(form, dict(leaves))
    names = list(leaves)
    return leaves[names[0]] if len(names) == 1 and names[0] in ("observation", "action") else dict(leaves)


def _env_spec(env: Tree | None) -> Any:
    """What makes the environment again, where gymnasium knows it by name."""
    name = (env or {}).get("name")
    if env is None or env.get("_target_") != _GYM or name not in gymnasium.registry:
        return None
    spec = gymnasium.spec(name)
    spec.kwargs = {**spec.kwargs, **env.get("kwargs", {})}
    if env.get("max_episode_steps"):
        spec.max_episode_steps = env["max_episode_steps"]
    try:
        spec.to_json()
    except ValueError:  # it is made by a function, which no file names
        return None
    return None if env.get("wrappers") else spec


# ------------------------------------------------------------------ in


def _ordered(described: Any, seen: FlatSpace, done: FlatSpace) -> tuple[spaces.Dict, spaces.Dict]:
    """The spaces in the order that the set says beside them, where it says the same ones."""
    try:
        told = described_spaces(described)
        ordered = told.observation_spaces[0], told.action_spaces[0]
    except (MazeError, KeyError, TypeError, ValueError, AttributeError):  # a set that others made
        return seen, done
    is_same = all(
        dict(mine.spaces) == dict(theirs.spaces) and _by_name(form_of(mine)) == _by_name(form_of(theirs))
        for mine, theirs in zip(ordered, (seen, done), strict=True)
    )
    return ordered if is_same else (seen, done)


def _by_name(form: JSON) -> JSON:
    """A form whose order says nothing."""
    if not isinstance(form, dict):
        return form
    if "dict" in form:
        return {"dict": {str(key): _by_name(inner) for key, inner in form["dict"]}}
    return {"tuple": [_by_name(inner) for inner in form["tuple"]]} if "tuple" in form else form


def _trajectory(
    episode: Any, readers: tuple[SpaceReader, SpaceReader], forms: Mapping[StepKey, tuple[JSON, JSON]]
) -> Trajectory:
    n = len(episode.rewards)
    if n == 0:
        raise RecordingError("it has no step")
    seen = dict(_leaves(readers[0], episode.observations, n + 1))
    done = dict(_leaves(readers[1], episode.actions, n))
    rewards = np.asarray(episode.rewards)
    if rewards.shape != (n,) or rewards.dtype.kind not in "iuf" or not np.isfinite(rewards).all():
        raise RecordingError(f"its rewards are no {n} finite numbers")
    ends = [np.asarray(each).astype(np.bool_) for each in (episode.terminations, episode.truncations)]
    if any(each.shape != (n,) for each in ends):
        raise RecordingError(f"it has other ends than one for each of its {n} steps")
    is_over = ends[0] | ends[1]
    if is_over[:-1].any() or not is_over[-1]:
        at = f"step {int(np.argmax(is_over))}, and has {n}" if is_over.any() else "none of its steps"
        raise RecordingError(f"it ends at {at}; only the last step ends an episode")
    return Trajectory(
        step_keys=[0] * n,
        agent_ids=np.zeros(n, np.int64),
        flat_steps=np.arange(n),
        rewards=rewards.astype(np.float64),
        observations={0: {name: values[:-1] for name, values in seen.items()}},
        actions={0: done},
        final_step_key=0,
        final_observation={name: values[-1] for name, values in seen.items()},
        terminated=bool(ends[0][-1]),
        truncated=bool(ends[1][-1]),
        forms=dict(forms),
    )


def _leaves(reader: SpaceReader, values: Any, n_rows: int) -> Iterator[tuple[str, Array]]:
    space = reader.space
    assert isinstance(space, FlatSpace)
    for name, value in reader.take_apart(values)[0].items():
        try:
            yield name, LeafReader(space[name], batch=(n_rows,)).read(np.asarray(value))
        except SpaceMismatchError as error:
            raise SpaceMismatchError(reader.refusal(name, error), error.pointer) from error


def _env_node(spec: Any) -> Tree | None:
    if spec is None or spec.id not in gymnasium.registry:
        return None
    node: Tree = {"_target_": _GYM, "name": spec.id, "kwargs": dict(spec.kwargs)}
    if spec.max_episode_steps != gymnasium.spec(spec.id).max_episode_steps:
        node["max_episode_steps"] = spec.max_episode_steps
    return node
