"""Recorded episodes as one file: Parquet, or NumPy's npz, each with a JSON header that says what it holds.

Both have the same columns (:func:`_columns`), one row per sub-step in order: ``episode``, ``step``, ``step_key``,
``agent_id``, ``flat_step``, ``reward``, where there are any ``log_prob``, ``value`` and what each actor was paid, and a
column for every observation and action head. Parquet has one more row per episode, with the final observation and
nothing done; an observation of another sub-step is null there. npz has arrays of the rows that have a value.

What is read back is what was written, to the bit: dtypes, shapes, NaN and all; nothing is pickled. The digest of
episodes that learn (``dataset.sha256``) is that of the episodes, whatever file they came in.
"""

import hashlib
import io
import json
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np

from maze_core.envs.env_spaces import EnvSpaces, described_spaces
from maze_core.errors import MazeError
from maze_core.files import write_atomically
from maze_core.rollout.recording import RecordingError, Trajectory
from maze_core.types import ActorID, Array, FloatArray, StepKey, Tree

VERSION: Final = 1
SUFFIXES: Final = (".parquet", ".npz")
_HEADER = "maze_episodes"
_DIGEST = "maze_episodes_sha256"
_FACTS = ("agent_ids", "flat_steps", "rewards", "log_probs", "values", "actor_rewards")
_COLUMN_OF = {
    "agent_ids": "agent_id",
    "flat_steps": "flat_step",
    "rewards": "reward",
    "log_probs": "log_prob",
}
_COLUMN_OF |= {"values": "value", "actor_rewards": "actor_rewards"}


@dataclass(frozen=True, kw_only=True)
class RecordedEpisode:
    """An episode, and what explains it."""

    trajectory: Trajectory
    seed: int | None = None
    """What its environment was reset with, where that is known: with it the episode can be played once more."""
    log_probs: FloatArray | None = None
    """``[n]`` float32: log-probability of each action, by the policy that took it."""
    values: FloatArray | None = None
    """``[n]`` float32: what the critic expected."""


@dataclass(frozen=True, kw_only=True)
class EpisodeSet:
    """Recorded episodes of one environment."""

    episodes: Sequence[RecordedEpisode]
    spaces: Sequence[Tree] | None = None
    """Per sub-step, as :func:`~maze_core.envs.env_spaces.describe_spaces` says them; None where they are not known."""
    env: Tree | None = None
    """How the environment is configured, ``_target_`` and settings."""

    @property
    def env_spaces(self) -> EnvSpaces | None:
        """The spaces, built."""
        return None if self.spaces is None else described_spaces(list(self.spaces))

    @property
    def trajectories(self) -> list[Trajectory]:
        """The episodes as ``dataset.run`` takes them."""
        return [episode.trajectory for episode in self.episodes]


def write_episodes(path: Path, episodes: EpisodeSet) -> None:
    """Write a file, whole or not at all; its suffix says which.

    Raises:
        RecordingError: there are none, they are not of one environment, or the suffix is not known.
    """
    if path.suffix not in SUFFIXES:
        raise RecordingError(f"{path}: episodes are written as {' or '.join(SUFFIXES)}.")
    header, arrays = _columns(episodes)
    write_atomically(path, (_parquet if path.suffix == ".parquet" else _npz)(header, arrays))


def read_episodes(path: Path) -> EpisodeSet:
    """What :func:`write_episodes` wrote.

    Raises:
        RecordingError: the file holds no episodes or is damaged; the message names file and place.
        OSError: it cannot be read.
    """
    data = path.read_bytes()
    try:
        header, arrays = (_from_parquet if path.suffix == ".parquet" else _from_npz)(data)
        if header.get("version") != VERSION:
            raise RecordingError(f"its version {header.get('version')!r} is not known here, {VERSION} is")
        return _episodes(header, arrays)
    except Exception as error:  # damage shows as whatever a reader stumbles over
        reason = str(error).rstrip(".") if isinstance(error, MazeError) else repr(error)
        raise RecordingError(f"{path} holds no recorded episodes, or is damaged: {reason}.") from error


# ------------------------------------------------------------------ episodes ⇄ columns


def _columns(given: EpisodeSet) -> tuple[Tree, dict[str, Array]]:
    """Header, and name → array; those of observations and actions have the rows of their sub-step."""
    episodes = given.episodes
    if not episodes:
        raise RecordingError("There are no episodes to write.")
    for i, episode in enumerate(episodes):
        refuse_lengths(episode, i)
    trajectories = given.trajectories
    keys = list(dict.fromkeys(chain.from_iterable(x.observations for x in trajectories)))
    keys += [x.final_step_key for x in trajectories if x.final_step_key not in keys]
    keys = list(dict.fromkeys(keys))
    first = trajectories[0]
    arrays: dict[str, Array] = {
        "step_keys": np.array([keys.index(key) for x in trajectories for key in x.step_keys], np.int64)
    }
    for name in _FACTS:
        holders: Sequence[Any] = episodes if name in ("log_probs", "values") else trajectories
        parts = [getattr(holder, name) for holder in holders]
        if any(part is not None for part in parts):
            arrays[name] = _joined(parts, f"{name} of the episodes")
    names: list[list[list[str]]] = []
    for i, key in enumerate(keys):
        seen = [x.observations.get(key, {}) for x in trajectories]
        done = [x.actions.get(key, {}) for x in trajectories]
        last = [x.final_observation if x.final_step_key == key else {} for x in trajectories]
        names.append([_names(parts, key) for parts in (seen, done, last)])
        for place, parts in zip(("observations", "actions", "final"), (seen, done, last), strict=True):
            arrays |= _side(f"{place}/{i}/", parts)
    header: Tree = {
        "version": VERSION,
        "keys": keys,
        "names": names,
        "forms": [[key, *forms] for key, forms in first.forms.items()],
        "actors": [list(actor) for actor in first.actors],
        "env": given.env,
        "spaces": None if given.spaces is None else list(given.spaces),
        "episodes": [_facts(episode, keys) for episode in episodes],
    }
    return header, arrays


def _facts(episode: RecordedEpisode, keys: Sequence[StepKey]) -> Tree:
    recorded = episode.trajectory
    return {
        "length": len(recorded.step_keys),
        "seed": episode.seed,
        "final_step_key": keys.index(recorded.final_step_key),
        "terminated": recorded.terminated,
        "truncated": recorded.truncated,
    }


def refuse_lengths(episode: RecordedEpisode, number: int) -> None:
    """Make sure that all that an episode tells is as long as its steps are many.

    Raises:
        RecordingError: something is longer or shorter; the message names it.
    """
    recorded = episode.trajectory
    n = len(recorded.step_keys)
    counts = Counter(recorded.step_keys)
    told: dict[str, tuple[Array | None, int]] = {
        name: (getattr(episode if name in ("log_probs", "values") else recorded, name), n) for name in _FACTS
    }
    for place, parts in (("observations", recorded.observations), ("actions", recorded.actions)):
        for key in {**counts, **parts}:
            told[f"{place}[{key!r}]"] = (None if parts.get(key) else np.empty(0), counts[key])
            told |= {f"{place}[{key!r}][{x!r}]": (y, counts[key]) for x, y in parts.get(key, {}).items()}
    for name, (array, length) in told.items():
        if array is not None and (array.ndim < 1 or len(array) != length):
            has = len(array) if array.ndim else "one number and no rows"
            raise RecordingError(f"Episode {number}: {name} has {has} where {length} should be.")


def _names(parts: Sequence[Mapping[str, Array]], key: StepKey) -> list[str]:
    """The one order of names that all episodes have at a sub-step."""
    found = [list(part) for part in parts if part]
    if any(names != found[0] for names in found):
        raise RecordingError(f"The episodes have different names at sub-step {key!r}: {found[0]} and others.")
    return found[0] if found else []


def _side(prefix: str, parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Name → the arrays of all episodes, one after the other; final observations each as a row."""
    filled = [part for part in parts if part]
    is_final = prefix.startswith("final/")
    return {
        prefix + name: _joined([part[name][None] if is_final else part[name] for part in filled], name)
        for name in (filled[0] if filled else {})
    }


def _joined(parts: Sequence[Array | None], what: str) -> Array:
    arrays = [part for part in parts if part is not None]
    if len(arrays) < len(parts) or len({(x.dtype, x.shape[1:]) for x in arrays}) > 1:
        raise RecordingError(f"{what}: not all episodes have it with the same shape and dtype.")
    return np.concatenate(arrays)


def _episodes(header: Tree, arrays: Mapping[str, Array]) -> EpisodeSet:
    keys, names, facts = header["keys"], header["names"], header["episodes"]
    rows = {name: _cut(array, [fact["length"] for fact in facts], name) for name, array in arrays.items()
            if "/" not in name}  # fmt: skip
    counts = [np.bincount(part, minlength=len(keys)) for part in rows["step_keys"]]
    cut: dict[str, list[Array]] = {}
    for i in range(len(keys)):
        n_rows = [int(count[i]) for count in counts]
        n_final = [int(fact["final_step_key"] == i) for fact in facts]
        for place, lengths, of in zip(
            ("observations", "actions", "final"), (n_rows, n_rows, n_final), names[i], strict=True
        ):
            cut |= {f"{place}/{i}/{n}": _cut(arrays[f"{place}/{i}/{n}"], lengths, n) for n in of}

    def part(e: int, place: str, i: int) -> dict[str, Array]:
        at = ("observations", "actions", "final").index(place)
        return {name: cut[f"{place}/{i}/{name}"][e] for name in names[i][at]}

    episodes = []
    for e, fact in enumerate(facts):
        acted = [i for i in range(len(keys)) if counts[e][i]]
        acted.sort(key=lambda i, e=e: int(np.argmax(rows["step_keys"][e] == i)))  # type: ignore[misc]
        trajectory = Trajectory(
            step_keys=[keys[i] for i in rows["step_keys"][e]],
            agent_ids=rows["agent_ids"][e],
            flat_steps=rows["flat_steps"][e],
            rewards=rows["rewards"][e],
            observations={keys[i]: part(e, "observations", i) for i in acted},
            actions={keys[i]: part(e, "actions", i) for i in acted},
            final_step_key=keys[fact["final_step_key"]],
            final_observation={n: x[0] for n, x in part(e, "final", fact["final_step_key"]).items()},
            terminated=bool(fact["terminated"]),
            truncated=bool(fact["truncated"]),
            forms={key: (seen, done) for key, seen, done in header["forms"]},
            actors=tuple(ActorID(*actor) for actor in header["actors"]),
            actor_rewards=rows["actor_rewards"][e] if "actor_rewards" in rows else None,
        )
        more = {name: rows[name][e] for name in ("log_probs", "values") if name in rows}
        episodes.append(RecordedEpisode(trajectory=trajectory, seed=fact["seed"], **more))
    return EpisodeSet(episodes=episodes, spaces=header["spaces"], env=header["env"])


def _cut(array: Array, lengths: Sequence[int], name: str) -> list[Array]:
    if len(array) != sum(lengths) or min(lengths, default=0) < 0:
        raise RecordingError(f"{name!r} has {len(array)} rows where {sum(lengths)} should be")
    return [np.array(part) for part in np.split(array, np.cumsum(lengths)[:-1])]


# ------------------------------------------------------------------ npz


def _npz(header: Tree, arrays: Mapping[str, Array]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        _put(file, f"{_HEADER}.json", json.dumps(header).encode())
        for name, array in arrays.items():
            member = io.BytesIO()
            np.save(member, array, allow_pickle=False)
            _put(file, f"{name}.npy", member.getvalue())
    return buffer.getvalue()


def _put(file: zipfile.ZipFile, name: str, content: bytes) -> None:
    file.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)


def _from_npz(data: bytes) -> tuple[Tree, dict[str, Array]]:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        if (damaged := file.testzip()) is not None:
            raise RecordingError(f"its part {damaged!r} is damaged")
        if f"{_HEADER}.json" not in file.namelist():
            raise RecordingError("it has no header: it was not written by maze")
        header = json.loads(file.read(f"{_HEADER}.json"))
        members = [name for name in file.namelist() if name.endswith(".npy")]
        return header, {name.removesuffix(".npy"): _array(file.read(name), name) for name in members}


def _array(content: bytes, name: str) -> Array:
    """The array of a member, which is made once its bytes are as many as its header says."""
    member = io.BytesIO(content)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, _, dtype = read[np.lib.format.read_magic(member)](member)
    n_bytes = len(content) - member.tell()
    if dtype.hasobject or min(shape, default=0) < 0 or prod(shape) * dtype.itemsize != n_bytes:
        raise RecordingError(f"its part {name!r} has {n_bytes} bytes, not an array {dtype} {list(shape)}")
    array: Array = np.load(io.BytesIO(content), allow_pickle=False)
    return array


# ------------------------------------------------------------------ parquet


def _arrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise RecordingError(
            "Parquet needs pyarrow: pip install 'maze-service[parquet]', or write .npz."
        ) from error
    return pyarrow


def _parquet(header: Tree, arrays: Mapping[str, Array]) -> bytes:
    """One row per sub-step and a last one per episode; columns of values that a row does not have are null."""
    pa = _arrow()
    lengths = np.array([fact["length"] for fact in header["episodes"]])
    ends = np.cumsum(lengths + 1) - 1
    n_rows = int(ends[-1]) + 1
    is_final = np.zeros(n_rows, np.bool_)
    is_final[ends] = True
    key = np.empty(n_rows, np.int64)
    key[~is_final] = arrays["step_keys"]
    key[is_final] = [fact["final_step_key"] for fact in header["episodes"]]
    labels = np.array([json.dumps(each) for each in header["keys"]])
    columns: dict[str, Any] = {
        "episode": pa.array(np.repeat(np.arange(len(lengths)), lengths + 1)),
        "step": pa.array(np.concatenate([np.arange(n + 1) for n in lengths])),
        "step_key": pa.array(labels[key].tolist()),
        "is_final": pa.array(is_final),
    }
    for name in _FACTS:
        if name in arrays:
            columns[_COLUMN_OF[name]] = _column(pa, arrays[name], ~is_final)
    told: list[Tree] = [_told(_COLUMN_OF[name], name, arrays[name]) for name in _FACTS if name in arrays]
    for column, name, array, rows in _of_spaces(header, arrays, key, is_final):
        columns[column] = _column(pa, array, rows)
        told.append(_told(column, name, array))
    table = pa.table(columns)
    text = json.dumps({**header, "columns": told})
    table = table.replace_schema_metadata({_HEADER: text, _DIGEST: _digest(text, arrays)})
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return bytes(sink.getvalue().to_pybytes())


def _digest(header: str, arrays: Mapping[str, Array]) -> str:
    """SHA-256 of all that a file says, in hex."""
    digest = hashlib.sha256(header.encode())
    for name in sorted(name for name, array in arrays.items() if len(array)):
        array = arrays[name]
        digest.update(json.dumps([name, array.dtype.str, list(array.shape)]).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _told(column: str, name: str, array: Array) -> Tree:
    return {"column": column, "name": name, "dtype": array.dtype.str, "shape": list(array.shape[1:])}


def _of_spaces(
    header: Tree, arrays: Mapping[str, Array], key: Array, is_final: Array
) -> Iterator[tuple[str, str, Array, Array]]:
    """Column, name, array and rows of every observation and action; final observations stand in the same columns."""
    keys = header["keys"]
    for i in range(len(keys)):
        of = "" if len(keys) == 1 else f"{keys[i]}."
        seen, done, last = header["names"][i]
        for name in dict.fromkeys([*seen, *last]):
            acted, ended = (arrays.get(f"{place}/{i}/{name}") for place in ("observations", "final"))
            joined = _interleaved(acted, ended, is_final[key == i])
            yield f"{of}observation.{name}", f"observations/{i}/{name}", joined, key == i
        for name in done:
            array = arrays[f"actions/{i}/{name}"]
            yield f"{of}action.{name}", f"actions/{i}/{name}", array, (key == i) & ~is_final


def _interleaved(acted: Array | None, ended: Array | None, is_final: Array) -> Array:
    if acted is None or ended is None:
        found = acted if ended is None else ended
        assert found is not None
        return found
    if (acted.dtype, acted.shape[1:]) != (ended.dtype, ended.shape[1:]):
        raise RecordingError("a final observation has another shape or dtype than those before it")
    joined = np.empty((len(is_final), *acted.shape[1:]), acted.dtype)
    joined[~is_final], joined[is_final] = acted, ended
    return joined


def _column(pa: Any, array: Array, rows: Array) -> Any:
    """Values in their rows, null elsewhere; arrays as lists of a fixed size, flat."""
    place = np.where(rows, np.cumsum(rows) - 1, 0)
    spread = array[place] if len(array) else np.zeros((len(rows), *array.shape[1:]), array.dtype)
    width = int(np.prod(array.shape[1:], dtype=int))
    if array.ndim == 1:
        return pa.array(spread, mask=~rows, from_pandas=False)
    flat = pa.array(np.ascontiguousarray(spread).reshape(-1), from_pandas=False)
    return pa.FixedSizeListArray.from_arrays(flat, width, mask=pa.array(~rows))


def _from_parquet(data: bytes) -> tuple[Tree, dict[str, Array]]:
    pa = _arrow()
    try:
        table = pa.parquet.read_table(pa.BufferReader(data), page_checksum_verification=True)
        metadata = table.schema.metadata or {}
        text = metadata.get(_HEADER.encode())
    except (pa.ArrowException, OSError) as error:
        raise RecordingError(f"it is no Parquet file, or is damaged ({error})") from error
    if text is None:
        raise RecordingError("it has no header: it was not written by maze")
    header = json.loads(text)
    is_final = table["is_final"].to_numpy()
    labels = [json.dumps(key) for key in header["keys"]]
    key = np.array([labels.index(each) for each in table["step_key"].to_pylist()], np.int64)
    arrays: dict[str, Array] = {"step_keys": key[~is_final]}
    for told in header["columns"]:
        array = _values(table, told)
        kind, _, rest = told["name"].partition("/")
        if kind != "observations":
            arrays[told["name"]] = array
            continue
        ended = is_final[key == int(rest.partition("/")[0])]
        arrays[told["name"]], arrays[f"final/{rest}"] = array[~ended], array[ended]
    expected = metadata.get(_DIGEST.encode())  # which files of earlier versions do not have
    if expected is not None and expected.decode() != _digest(text.decode(), arrays):
        raise RecordingError("what it holds does not match its digest")
    return header, arrays


def _values(table: Any, told: Tree) -> Array:
    """The values of a column that are not null, in the shape and dtype that they had."""
    pa = _arrow()
    column = pa.concat_arrays(table[told["column"]].chunks) if table.num_rows else table[told["column"]]
    column = column.drop_null()
    shape, dtype = told["shape"], np.dtype(told["dtype"])
    flat = column.flatten() if pa.types.is_fixed_size_list(column.type) else column
    found: Array = flat.to_numpy(zero_copy_only=False).astype(dtype, copy=False)
    return found.reshape(len(column), *shape)
