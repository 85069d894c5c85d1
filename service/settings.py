"""Every setting of the service, in one class; each is an environment variable ``MAZE_<NAME>``.

Settings are the operator's alone: nothing here can be said over HTTP.
"""

import ipaddress
import json
import logging
import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service.domain.run import Retention

logger = logging.getLogger(__name__)

MIB = 1_048_576
PREFIX = "MAZE_"
CLIENTS = frozenset({"TOKEN", "URL"})
"""Variables after the prefix that clients use."""


def _split(value: Any) -> Any:
    """Read a list setting: JSON when it starts with a bracket, else separated by commas."""
    if not isinstance(value, str):
        return value
    from maze_core.config.modules import listed  # seldom needed, and it brings the whole configuration

    return listed(value)


def _existing(names: list[str]) -> list[str]:
    """Absolute, since a run's process works elsewhere."""
    for name in names:
        if not Path(name).expanduser().is_dir():
            raise ValueError(f"takes directories that exist (there is no {Path(name).absolute()})")
    return [str(Path(name).expanduser().resolve()) for name in names]


def _trackers(names: list[str]) -> list[str]:
    if not names:
        return names
    from maze_core.runners.trackers import TRACKERS

    for name in names:
        if name not in TRACKERS:
            raise ValueError(f"takes {', '.join(TRACKERS)} (there is no {name})")
    return names


Names = Annotated[list[str], NoDecode, BeforeValidator(_split)]


def is_loopback(host: str) -> bool:
    """Whether a bind address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def cores() -> int:
    """Processors that this process may use: its affinity, and a container's quota of them."""
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(n_cores, round(int(quota) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):  # no container, or no quota: "max"
        return n_cores


class Settings(BaseSettings):
    """Settings of API, worker and database: arguments, else ``MAZE_…`` variables, else these defaults."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True
    )

    database_url: str = Field(default="sqlite:///data/maze.db", repr=False)
    """SQLAlchemy URL: ``sqlite:///relative.db``, ``sqlite:////absolute.db`` or ``postgresql://user@host/name``."""
    host: str = "127.0.0.1"
    """Address that the API listens on."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port that the API listens on; 0 takes a free one."""
    auth: bool = True
    """Ask for a token. Off is allowed on a loopback address only."""
    allowed_hosts: Names = []
    """Further values of the Host header, besides loopback names and ``host``; comma-separated, or JSON."""
    allowed_origins: Names = []
    """Origins, as ``https://board.example``, whose web pages may call the API."""

    workers: int = Field(default_factory=lambda: cores() + 1, ge=1)
    """Run slots of a worker process: by default one for each core, and one kept for rollouts and evaluations."""
    lease_s: float = Field(default=30.0, gt=0)
    """Seconds after which a run whose worker is silent goes to another one."""
    heartbeat_s: float = Field(default=5.0, gt=0)
    """Seconds between a worker's signs of life; well below ``lease_s``."""
    poll_s: float = Field(default=0.1, gt=0)
    """Seconds between two looks of a worker, or of an event stream, for something new."""
    executor: Literal["forkserver", "ray"] = "forkserver"
    """Where the processes of runs are: ``forkserver`` starts them on the worker's machine, ``ray`` on a cluster."""
    ray_address: str | None = None
    """Of the cluster, as ``10.0.0.5:6379`` or ``auto``; none starts one on this machine, on its loopback alone."""
    max_attempts: int = Field(default=3, ge=1)
    """How often in a row a run may die without a new scheduled checkpoint before it ends ``failed`` with reason
    ``attempts_exhausted``."""
    shutdown_grace_s: float = Field(default=20.0, ge=0)
    """Seconds that running work has to store its checkpoint when the service stops."""
    child_memory_bytes: int | None = Field(default=None, ge=64 * MIB)
    """Address space of a run's process; none is no limit."""

    env_modules: Names = []
    """Python modules that a worker imports so that they register their environments."""
    config_dirs: Annotated[Names, AfterValidator(_existing)] = []
    """Further directories of configuration modules; they exist when the service starts."""
    extra_targets: Names = []
    """Further exact ``_target_`` names that HTTP clients may use."""

    sinks: Annotated[Names, AfterValidator(_trackers)] = []
    """Trackers that the metrics of every training go to as well: ``mlflow``, ``wandb``, ``trackio``. Workers write to
    them, with the libraries' own environment variables, such as ``MLFLOW_TRACKING_URI`` and ``WANDB_API_KEY``."""

    max_body_bytes: int = Field(default=MIB, ge=1)
    """Largest request body, in bytes."""
    max_action_body_bytes: int = Field(default=16 * MIB, ge=1)
    """Largest body of a request that acts, in bytes; 256 pictures of 96 × 96 × 3 bytes take 7 MiB."""
    action_queue_rows: int = Field(default=4096, ge=1)
    """Observations that may wait for one policy; beyond them requests are answered 503."""
    action_queue_age_s: float = Field(default=10.0, gt=0)
    """Seconds that a request may wait for its policy; older ones are answered 503 instead of computed."""
    max_queued_runs: int = Field(default=10_000, ge=1)
    """Queued runs beyond which a submission is answered 503."""
    max_import_mib: int = Field(default=256, ge=1, le=900)
    """MiB of a checkpoint that is imported."""
    rate_limit_per_s: float = Field(default=0.0, ge=0)
    """Requests per second and client; 0 is no limit."""
    max_connections: int = Field(default=10_000, ge=1)
    """Open connections of the API; further ones are answered 503."""
    max_connections_per_address: int = Field(default=1000, ge=1)
    """Of them those of one address, or of one /64 of IPv6. This machine's own are not counted: a proxy speaks for
    all."""
    head_timeout_s: float = Field(default=10.0, gt=0)
    """Seconds in which a request's line and headers have to come, else 408."""
    body_timeout_s: float = Field(default=30.0, gt=0)
    """Seconds in which its body has to come, longer by what comes at 16 KiB/s, else 408."""
    read_timeout_s: float = Field(default=30.0, gt=0)
    """Seconds in which a client has to read what waits of its answer, longer by what that takes at 16 KiB/s; else its
    connection is closed."""
    idle_timeout_s: float = Field(default=75.0, gt=0)
    """Seconds for which a connection without a request is kept; longer than those of a proxy before it."""
    drain_s: float = Field(default=0.5, ge=0)
    """Seconds for which the API, told to end, still takes connections, with ``/health/ready`` at 503: as long as a load
    balancer takes to notice."""
    agents_cached: int = Field(default=8, ge=1)
    """Loaded policies that the API keeps in memory."""
    max_sessions: int = Field(default=1000, ge=1)
    """Sessions that may be open; beyond them, one of the project that has been idle for a minute gives its place to a
    new one, or else the idlest of the project with the most, where that has more."""
    fast_path: bool = True
    """Answer the common ``compute_action`` where it arrives; off, every request goes through the whole application."""

    webhook_private_hosts: Names = []
    """Hosts that webhooks may name although they are private, and without TLS; messages go nowhere else but to public
    addresses over https. Workers need it, too."""

    blob_dir: Path | None = None
    """Directory of checkpoints above 64 MiB. Default: ``blobs`` beside an SQLite file, else the database."""
    keep_scheduled: int = Field(default=3, ge=1)
    """Scheduled checkpoints kept per run, besides its best and its last one."""
    keep_days: float | None = Field(default=None, gt=0)
    """Days after its end for which a run is kept; all are kept by default."""
    keep_runs: int | None = Field(default=None, ge=0)
    """Ended runs that are kept: beyond them the oldest are deleted."""
    keep_mib: float | None = Field(default=None, gt=0)
    """MiB of checkpoints and episodes that are kept: beyond them the oldest ended runs are deleted."""
    keep_audit_days: float = Field(default=365.0, gt=0)
    """Days for which the audit log is kept."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe messages that are logged."""
    log_format: Literal["text", "json"] = "text"
    """``json``: one object per line, with the ids of the request, or of the run, that it belongs to."""
    access_log: bool = False
    """Log every request; it costs ``compute_action`` its fast path."""

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        known = [name.upper() for name in type(self).model_fields]
        given = [name.upper().removeprefix(PREFIX) for name in os.environ if name.upper().startswith(PREFIX)]
        for name in sorted({*given} - {*known} - CLIENTS):
            from maze_core.config.words import closest  # seldom needed, and it takes half a second

            if (near := closest(name, known)) in known:
                raise ValueError(f"there is no setting {PREFIX}{name}; did you mean {PREFIX}{near}?")
            logger.warning("there is no setting %s%s; it is ignored", PREFIX, name)
        return self

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.auth and not is_loopback(self.host):
            raise ValueError(
                f"without tokens the service listens on loopback only, and host is {self.host!r}: "
                "set MAZE_HOST=127.0.0.1, or leave out --no-auth (MAZE_AUTH=true) and use a token "
                "of `maze token create`"
            )
        if self.heartbeat_s * 2 > self.lease_s:
            raise ValueError(
                f"heartbeat_s ({self.heartbeat_s:g}) must be at most half of lease_s ({self.lease_s:g}), "
                "or one late heartbeat loses the run: lower MAZE_HEARTBEAT_S or raise MAZE_LEASE_S"
            )
        return self


def retention(settings: Settings) -> Retention | None:
    """What is kept of ended runs; None is all."""
    given = (settings.keep_days, settings.keep_runs, settings.keep_mib)
    if given == (None, None, None):
        return None
    age_s = None if settings.keep_days is None else settings.keep_days * 86_400
    size_bytes = None if settings.keep_mib is None else int(settings.keep_mib * MIB)
    return Retention(age_s=age_s, runs=settings.keep_runs, size_bytes=size_bytes)


def settings_table() -> str:
    """All settings as a Markdown table: variable, default, meaning."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "cores + 1" if field.default_factory else json.dumps(field.default, default=str)
        rows.append(
            f"| `MAZE_{name.upper()}` | `{default}` | {' '.join((field.description or '').split())} |"
        )
    return "\n".join(rows) + "\n"
