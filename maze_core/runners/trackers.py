"""Sinks into MLflow, Weights & Biases and trackio, by their own libraries, which are extras.

Where they write to and with which key is their own setting, in their own environment variables, unless it is said here.
"""

import importlib
import math
import re
import time
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from maze_core.config.settings import STRICT, dataclass
from maze_core.errors import EnvError
from maze_core.runners.sinks import RunFacts, Sink

_MOST_POINTS: Final = 1000
"""Metrics of one batch of MLflow's; of more it takes none."""
_MOST_PARAMS: Final = 100
_LONGEST_KEY: Final = 250
_LONGEST_PARAM: Final = 6000
_RUN_TAG: Final = "maze.run"
_CLOCK: Final = "time/env_steps_per_s"
"""Every epoch has this metric, so its last step is the last one that was written."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MlflowSinkConfig:
    """Metrics and configuration to an MLflow server or folder, as one run that a resumed training goes on with."""

    tracking_uri: str | None = None
    """Server or folder; null is MLflow's own setting, ``MLFLOW_TRACKING_URI``."""
    experiment: str = "maze"
    """Its experiment, which is made where there is none."""
    word: ClassVar[str] = "mlflow"

    def make(self) -> Sink:
        """The sink."""
        return _Mlflow(self)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class WandbSinkConfig:
    """Metrics and configuration to Weights & Biases, as one run that a resumed training goes on with."""

    project: str = "maze"
    entity: str | None = None
    """Team; null is the key's own."""
    mode: str | None = None
    """``online``, ``offline`` or ``disabled``; null is its own setting, ``WANDB_MODE``."""
    word: ClassVar[str] = "wandb"

    def make(self) -> Sink:
        """The sink."""
        return _Wandb(self)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrackioSinkConfig:
    """Metrics and configuration to trackio's database on this machine, or where its own settings say."""

    project: str = "maze"
    word: ClassVar[str] = "trackio"

    def make(self) -> Sink:
        """The sink."""
        return _Trackio(self)


TRACKERS: Final = {kind.word: kind for kind in (MlflowSinkConfig, WandbSinkConfig, TrackioSinkConfig)}
"""Word → settings."""


class _Mlflow:
    def __init__(self, config: MlflowSinkConfig) -> None:
        library = _imported("mlflow.tracking", "mlflow")
        self._entities = importlib.import_module("mlflow.entities")
        self._config, self._client = config, library.MlflowClient(tracking_uri=config.tracking_uri)
        self._last = -1
        """Up to which step an earlier attempt wrote: a resumed run repeats epochs with the same values."""

    def open(self, run: RunFacts) -> None:
        client, name = self._client, self._config.experiment
        experiment = client.get_experiment_by_name(name)
        place = client.create_experiment(name) if experiment is None else experiment.experiment_id
        found = client.search_runs([place], filter_string=f"tags.`{_RUN_TAG}` = '{run.id}'", max_results=1)
        if found:
            self._id = found[0].info.run_id
            client.update_run(self._id, status="RUNNING")
            self._last = max(
                (point.step for point in client.get_metric_history(self._id, _CLOCK)), default=-1
            )
            return
        self._id = client.create_run(place, run_name=run.name, tags={_RUN_TAG: run.id}).info.run_id
        params = [
            self._entities.Param(mlflow_key(key), text[:_LONGEST_PARAM]) for key, text in run.params.items()
        ]
        for start in range(0, len(params), _MOST_PARAMS):
            client.log_batch(self._id, params=params[start : start + _MOST_PARAMS])

    def write(self, epoch: int, step: int, values: Mapping[str, float]) -> None:
        if step <= self._last:
            return
        now = int(time.time() * 1000)
        points = [
            self._entities.Metric(mlflow_key(name), float(value), now, step)
            for name, value in {"epoch": epoch, **values}.items()
        ]
        for start in range(0, len(points), _MOST_POINTS):
            self._client.log_batch(self._id, metrics=points[start : start + _MOST_POINTS])

    def close(self, outcome: str) -> None:
        self._client.set_terminated(self._id, status=outcome.upper())


class _Wandb:
    def __init__(self, config: WandbSinkConfig) -> None:
        self._config, self._library = config, _imported("wandb", "wandb")

    def open(self, run: RunFacts) -> None:
        given = {"mode": self._config.mode} if self._config.mode else {}
        self._run = self._library.init(
            project=self._config.project,
            entity=self._config.entity,
            id=run.id,
            name=run.name,
            resume="allow",
            reinit="create_new",
            config=dict(run.params),
            dir=None if run.directory is None else str(run.directory),
            settings=self._library.Settings(silent=True, console="off"),
            **given,
        )
        # not its own step: that may not go back, as an epoch does that is repeated after a resume
        self._run.define_metric("env_steps")
        self._run.define_metric("*", step_metric="env_steps")

    def write(self, epoch: int, step: int, values: Mapping[str, float]) -> None:
        self._run.log({**values, "epoch": epoch, "env_steps": step})

    def close(self, outcome: str) -> None:
        self._run.finish(exit_code=0 if outcome == "finished" else 1)


class _Trackio:
    def __init__(self, config: TrackioSinkConfig) -> None:
        self._config, self._library = config, _imported("trackio", "trackio")

    def open(self, run: RunFacts) -> None:
        self._run = self._library.init(
            project=self._config.project, name=run.name, resume="allow", config=dict(run.params)
        )

    def write(self, epoch: int, step: int, values: Mapping[str, float]) -> None:
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        self._run.log({**finite, "epoch": epoch}, step=step)

    def close(self, outcome: str) -> None:
        self._run.finish()


def mlflow_key(name: str) -> str:
    """A name as MLflow takes it: other characters become ``_``, empty parts and outer slashes go."""
    clean = re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)
    parts = (part if part.strip(".") else "_" * len(part) for part in clean.split("/"))
    return "/".join(part for part in parts if part)[:_LONGEST_KEY] or "_"


def _imported(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name not in (module, extra):
            raise
        raise EnvError(
            f"{extra} is not installed: pip install 'maze-service[{extra}]'", is_made=False
        ) from error
