"""What the use cases need of a store. One contract suite (tests/contracts) runs against every database.

Every method is one transaction, safe to call from any thread, and raises :class:`StoreUnavailableError`
when the database does not answer in time. Times are UTC from the database's clock. Methods that take a
:class:`Lease` raise :class:`StaleLeaseError` and write nothing when the run's lease is a newer one or has
been given back.

What belongs to a project is asked for through :mod:`service.domain.projects`, which adds the project to lists and to
what is made, and looks whose something is that is named.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from service.domain.audit import Change
from service.domain.policies import Gate, MoveKind, Policy, PolicyAlias, PolicyVersion, Traffic
from service.domain.run import (
    CheckpointInfo,
    EpisodeInfo,
    Event,
    EventType,
    Imported,
    Lease,
    LogLine,
    MetricOrder,
    MetricPoint,
    NewCheckpoint,
    NewRun,
    Page,
    Picture,
    Progress,
    Retention,
    Run,
    RunKind,
    RunOrder,
    RunState,
    RunStatistics,
    StopReason,
)
from service.domain.sessions import EndedSession, NewSession, TakenOver
from service.domain.sharing import Caller, Grant, Project, Token
from service.domain.sweep import (
    Curves,
    JobState,
    NewJob,
    NewSweep,
    Sweep,
    SweepJob,
    SweepState,
    SweepVerb,
    Wanted,
)
from service.domain.upload import NewUpload, Upload
from service.domain.webhooks import Attempted, Delivery, Due, Webhook


class RunStore(Protocol):
    """Runs, their states, leases and event log."""

    def create(
        self,
        new: NewRun,
        idempotency: tuple[str, str] | None = None,
        *,
        max_queued: int | None = None,
        by: str | None = None,
    ) -> tuple[Run, bool]:
        """Store a queued run and its first ``state`` event.

        Args:
            new: the run.
            idempotency: key and body digest; the key row is written in the same transaction.
            max_queued: as many queued runs as there may be; a key that made its run before needs no place.
            by: who submits it, for the run's history.

        Returns:
            The run, and whether it was made now; False when the key had made it before.

        Raises:
            IdempotencyConflictError: the key is known with another digest.
            CapacityError: the queue is full.
        """

    def submitted(self, key: str, digest: str) -> Run | None:
        """The run that an idempotency key has made; raises :class:`IdempotencyConflictError`."""

    def get(self, run_id: str) -> Run:
        """The run; raises :class:`NotFoundError`."""

    def shown(self, run_ids: Sequence[str]) -> Sequence[Run]:
        """Those of the runs that there are, in any order: without request and configuration, which no face shows."""

    def list(
        self,
        *,
        state: RunState | None = None,
        kind: RunKind | None = None,
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
        sweep: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        sort: RunOrder | MetricOrder = RunOrder.NEWEST,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Runs without request and configuration, and of a result what does not grow with episodes.

        Args:
            state: only those in this state.
            kind: only those of this kind.
            labels: only those with all of these labels.
            name: only those whose name has this in it, in upper or lower case.
            sweep: only those that this sweep made.
            created_after: only those that were submitted then or later.
            created_before: only those that were submitted before.
            sort: in which order; by name, best value or a metric, runs that have none are left out.
            limit: how many.
            cursor: from where; one of this order.

        Raises:
            ValueError: the cursor is not ours.
        """

    def held(self) -> Sequence[Run]:
        """Runs that a worker holds now, by start, as :meth:`shown` gives them."""

    def statistics(self) -> Mapping[tuple[RunKind, RunState], RunStatistics]:
        """Number, age and durations of the runs per kind and state; those without runs are left out."""

    def request_stop(self, run_id: str, wish: StopReason, *, by: str | None = None) -> Run:
        """Cancel or pause a run: at once where no worker holds it; a running one becomes ``stopping``.

        Asking again changes nothing, but a cancel takes the place of a pause.

        Args:
            run_id: the run.
            wish: ``CANCEL`` or ``PAUSE``.
            by: who asks: a token's id, for the run's history.

        Raises:
            StateConflictError: the run has ended.
        """

    def resume(self, run_id: str, *, max_queued: int | None = None, by: str | None = None) -> Run:
        """Give a paused run back to the queue; one that is on its way to its pause is ``running`` again.

        Its worker, which may have told the run to stop, then gives it back to the queue.

        Args:
            run_id: the run.
            max_queued: as many queued runs as there may be.
            by: who asks, for the run's history.

        Raises:
            StateConflictError: the run is not paused.
            CapacityError: the queue is full.
        """

    def edit(self, run_id: str, changes: Mapping[str, Any], *, revision: int | None = None) -> Run:
        """Change name, notes, priority or labels; of the labels those that are named, None takes one away, or all.

        Args:
            run_id: the run.
            changes: by name.
            revision: the one that the run has to have still.

        Raises:
            RevisionConflictError: it has another one.
            StateConflictError: it would have more than 32 labels.
        """

    def delete(self, run_id: str) -> None:
        """Forget a run that has ended, with all it left.

        Raises:
            StateConflictError: it has not ended, or a run that has not ended needs one of its checkpoints.
        """

    def delete_oldest(self, keep: Retention) -> Mapping[str, str]:
        """Delete some of the ended runs that are too many, too old or too large, the oldest first; id → why."""

    def claim(
        self, worker: str, *, kinds: Sequence[RunKind], lease_s: float, films: bool = True
    ) -> tuple[Run, Lease] | None:
        """Take the oldest queued run of these kinds in one statement; None when there is none.

        The run becomes ``running``, ``attempt`` and ``epoch_token`` grow by one, ``started_at`` is set once.
        A requeued run that is to be cancelled goes on to ``stopping`` in the same transaction. Who does not film leaves
        rollouts that are to be filmed to others.
        """

    def begin(self, new: NewRun, holder: str, *, by: str | None = None) -> tuple[Run, Lease]:
        """Store a run that no queue and no worker sees: it runs at once, held for as long as ``holder`` likes."""

    def heartbeat(self, lease: Lease, *, lease_s: float) -> StopReason | None:
        """Extend the lease to ``lease_s`` from now; returns the wish to stop, if there is one."""

    def clock(self) -> float:
        """Seconds on the database's clock, which leases lapse by."""

    def reap(self, *, max_attempts: int, spare: Sequence[str] = ()) -> Sequence[Run]:
        """Requeue runs whose lease lapsed (``lease_expired``), except some; returns the runs as they are now.

        An attempt in which the run stored a new scheduled checkpoint does not count, nor do those before it. A run
        out of attempts ends ``failed/attempts_exhausted``. A run that was to be paused is; one that was to be
        cancelled is ``stopping`` again when next claimed, and out of attempts it ends ``cancelled``.
        """

    def release(self, lease: Lease, *, reason: str, charge_attempt: bool) -> Run:
        """Give a run back to the queue (shutdown, retry), where it keeps its place; one to be paused is ``paused``.

        An uncharged release takes the attempt back.
        """

    def finish(
        self,
        lease: Lease,
        state: RunState,
        *,
        reason: str,
        result: Mapping[str, Any] | None = None,
        error: Mapping[str, Any] | None = None,
    ) -> Run:
        """End the run: state, ``finished_at``, a ``state`` event and an ``end`` event, in one transaction.

        Raises:
            StateConflictError: the run's state does not lead to this one.
            ValueError: the state is not a terminal one.
        """

    def report(
        self,
        lease: Lease,
        *,
        phase: str | None = None,
        progress: Progress | None = None,
        metrics: Sequence[MetricPoint] = (),
        logs: Sequence[tuple[str, str]] = (),
        events: Sequence[tuple[EventType, Mapping[str, Any]]] = (),
    ) -> None:
        """Write what a child reported, in one transaction.

        Args:
            lease: the right to write.
            phase: a phase other than the present one makes a ``phase`` event.
            progress: replaces the run's progress; makes no event of its own.
            metrics: replace points of the same (name, epoch), move ``latest_metrics`` and make one
                ``metrics`` event ``{epoch, step, values}`` per epoch. NaN and infinities are kept as floats.
            logs: lines as (level, message).
            events: written as they are, after those above.
        """

    def events(
        self, run_id: str, *, types: Collection[EventType] = (), after: int = 0, limit: int = 500
    ) -> Sequence[Event]:
        """Events with ``seq > after`` in order; of these types alone where some are given."""

    def feed(self, *, types: Collection[EventType] = (), after: int = 0, limit: int = 500) -> Sequence[Event]:
        """Events of all runs with ``position > after`` in order; of these types alone where some are given.

        Positions are those of commits: what appears later has a larger one. A deleted run has no events.
        """

    def feed_end(self) -> int:
        """Position of the newest event of all; 0 before the first one."""

    def metrics(
        self,
        run_id: str,
        *,
        names: Sequence[str] | None = None,
        after_epoch: int | None = None,
        before_epoch: int | None = None,
        after: tuple[int, str] | None = None,
        limit: int = 10_000,
    ) -> Sequence[MetricPoint]:
        """Metric points, by epoch then name, behind the one with epoch and name ``after``.

        A point that a resumed attempt wrote again replaces the old.
        """

    def chart(
        self,
        run_id: str,
        name: str,
        *,
        max_points: int,
        after_epoch: int | None = None,
        before_epoch: int | None = None,
    ) -> Sequence[MetricPoint]:
        """At most so many stored points of one metric, by epoch, 8 or more: all, where there are no more epochs.

        Else its first and its last, and of equally long stretches between them the least and the greatest each, and
        one that is NaN where there is one. What it costs does not grow with the points that there are.
        """

    def spaced(
        self, run_id: str, name: str, *, points: int, span: tuple[int, int] | None = None
    ) -> Sequence[MetricPoint]:
        """At most so many stored points of one metric, by epoch: its first, its last and those evenly between.

        What it costs does not grow with the points that there are. ``points`` is 2 or more. ``span`` takes other ends,
        so that several runs have points at the same epochs.
        """

    def logs(
        self, run_id: str, *, after: int = 0, before: int | None = None, limit: int = 500
    ) -> Sequence[LogLine]:
        """Log lines with ``seq > after`` in order; with ``before`` the last ones that have ``seq < before``."""

    def change_marker(self) -> int:
        """A number that changes whenever anything was written; cheap enough for 10 calls a second.

        It is worth comparing only with an earlier one of the same object.
        """


class Content(Protocol):
    """Stored bytes that are read piece by piece, so that nobody holds them all."""

    @property
    def sha256(self) -> str:
        """Their digest, in hex."""

    @property
    def size_bytes(self) -> int:
        """How many there are."""

    def read(self, start: int, stop: int) -> bytes:
        """Those from ``start`` to before ``stop``, unverified; :class:`NotFoundError` once they are deleted."""


class CheckpointStore(Protocol):
    """Checkpoint bundles, deduplicated by digest, in chunks; large ones as digest-named files."""

    def put(
        self,
        lease: Lease,
        new: NewCheckpoint,
        bundle: bytes,
        edges: Sequence[int] = (),
        imported: Imported | None = None,
    ) -> CheckpointInfo:
        """Store a bundle and its ``checkpoint`` event; moves the run's best and last marks and ``best``.

        Cut at ``edges``, it is stored in parts, of which those that other bundles have are stored once. What an
        imported one says of its run becomes the importing run's in the same transaction.

        The same (run, epoch, kind) again, as after a resume, replaces the row; with the same content it keeps
        its id, so an id never changes its meaning. Kept are the best, the last, the newest scheduled ones
        and what a run that has not ended acts with; the others are deleted in the same transaction.
        """

    def list(self, run_id: str, *, limit: int = 50, cursor: str | None = None) -> Page:
        """Checkpoints of a run, newest epoch first."""

    def resolve(self, run_id: str, selector: str) -> CheckpointInfo:
        """``best``, ``last``, ``scheduled`` (the last scheduled one), ``epoch:N`` or a checkpoint id.

        ``last`` is the newest one where none is marked so yet.

        Raises:
            NotFoundError: the run has none such; the message says what it has.
        """

    def get(self, checkpoint_id: str) -> CheckpointInfo:
        """One checkpoint's facts; raises :class:`NotFoundError`."""

    def read(self, checkpoint_id: str) -> bytes:
        """The bundle; its digest is verified, a damaged one raises :class:`NotFoundError` naming it."""

    def content(self, checkpoint_id: str) -> Content:
        """The bundle, to be read piece by piece; raises :class:`NotFoundError`."""


class EpisodeStore(Protocol):
    """Episodes that rollouts recorded and trainings filmed."""

    def add(
        self,
        lease: Lease,
        episode: EpisodeInfo,
        trajectory: bytes | None,
        video: bytes | None = None,
        thumbnail: bytes | None = None,
    ) -> None:
        """Store one episode and its ``episode`` event; the same index again replaces it."""

    def drop_films(self, lease: Lease, epochs: Sequence[int]) -> None:
        """Delete what a training filmed at these epochs; what acted there goes with its next checkpoint."""

    def list(self, run_id: str, *, limit: int = 50, cursor: str | None = None) -> Page:
        """Episodes of a run, by index."""

    def get(self, run_id: str, index: int) -> EpisodeInfo:
        """One episode; raises :class:`NotFoundError`."""

    def recorded(self, run_id: str) -> Mapping[int, tuple[str, int]]:
        """Index → SHA-256 and number of the trajectory's bytes, of every episode that has one, by index."""

    def trajectory(self, run_id: str, index: int) -> bytes:
        """The trajectory's bytes (safetensors); raises :class:`NotFoundError`."""

    def picture(self, run_id: str, index: int, kind: Picture) -> Content:
        """The video (MP4), its thumbnail (PNG) or the trajectory as it is stored; raises :class:`NotFoundError`."""


class RegistryStore(Protocol):
    """What workers publish and operators grant: environments and access tokens."""

    def publish_environments(self, worker: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add or renew environments that a worker knows; those not published for a day are forgotten.

        Each row has an ``id`` and says by ``is_available`` whether the worker can build it.
        """

    def env_ids(self) -> frozenset[str]:
        """Ids of the environments that some worker can build."""

    def environments(self, env_id: str | None = None) -> Sequence[Mapping[str, Any]]:
        """Published environments by id, or the one of this id; ``workers`` names those that can build it."""

    def beat_worker(self, worker: str, info: Mapping[str, Any]) -> None:
        """A worker says it is alive."""

    def forget_worker(self, worker: str) -> None:
        """A worker says that it takes no more runs."""

    def live_workers(self, within_s: float) -> Sequence[Mapping[str, Any]]:
        """Workers heard of within this time: ``{worker, last_seen_s, …info}``."""

    def add_token(
        self,
        token_id: str,
        sha256: str,
        name: str,
        caller: Caller,
        *,
        expires_in_s: float | None = None,
        by: str | None = None,
    ) -> None:
        """Store a token's digest, and what it grants until it expires.

        Args:
            token_id: its id.
            sha256: of its text.
            name: whose it is.
            caller: project and scopes.
            expires_in_s: None never does.
            by: the token that makes it; None is the command line.
        """

    def find_token(self, token_id: str) -> Grant | None:
        """What a token grants that is neither revoked nor expired, else None."""

    def note_use(self, token_id: str) -> None:
        """Write down that a token was used now."""

    def add_ticket(self, sha256: str, caller: Caller, path: str, *, expires_in_s: float) -> datetime:
        """Store the digest of a ticket that opens a path for this caller once; returns until when."""

    def take_ticket(self, sha256: str, path: str) -> Caller | None:
        """Use a ticket up: whose it is, without scopes; None where there is none such for this path."""

    def tokens(self) -> Sequence[Token]:
        """All tokens, oldest first; never a digest."""

    def revoke_token(self, token_id: str) -> None:
        """Revoke, with those that it made unless it is an admin's; raises :class:`NotFoundError`."""


class SessionStore(Protocol):
    """Which sessions there are, and how those ended that are over; see :mod:`service.domain.sessions`."""

    def add(self, new: NewSession) -> None:
        """Store one that begins; its checkpoint is kept while it is open.

        Raises:
            NotFoundError: the checkpoint is gone.
        """

    def repin(self, session_id: str, checkpoint_id: str) -> None:
        """It acts with another checkpoint from now on."""

    def end(self, ended: Sequence[EndedSession]) -> None:
        """Write down how sessions ended; what ended longer ago than ``KEPT_S`` is forgotten."""

    def ended(self, session_id: str) -> EndedSession:
        """How one ended, that is not open in this process; raises :class:`NotFoundError`."""

    def suspend(self, snapshots: Mapping[str, bytes]) -> None:
        """Write down how open sessions go on."""

    def take_over(self) -> TakenOver:
        """What the process before has left: what was written down goes on, all other sessions end ``restarted``."""


class UploadStore(Protocol):
    """Checkpoints on their way in, in parts; each makes one run, whose id follows from its own."""

    def begin(self, new: NewUpload, *, max_open: int, max_open_of_one: int) -> tuple[Upload, bool]:
        """An upload, and whether it was begun now: one of the same digest that still waits for parts goes on.

        Raises:
            CapacityError: so many are open or wait for their run's end already, of all or of whoever begins this one;
                :meth:`sweep` and :meth:`drop` make room.
        """

    def list(self, created_by: str | None, *, limit: int = 50, cursor: str | None = None) -> Page:
        """Uploads of one token that are not complete, newest first; raises :class:`ValueError` for another cursor."""

    def get(self, upload_id: str) -> Upload:
        """An upload; raises :class:`NotFoundError`, also where its time is up and no run was made of it."""

    def put_part(self, upload_id: str, number: int, data: bytes) -> Upload:
        """Store a part, in place of the one of the same number.

        Raises:
            NotFoundError: there is no such upload.
            StateConflictError: its run was made, so the parts are settled.
        """

    def sha256(self, upload_id: str) -> str:
        """Digest of the parts in order; one part is in memory at a time."""

    def read(self, upload_id: str) -> bytes:
        """The parts in order; raises :class:`NotFoundError`, also where they are not what was announced."""

    def drop(self, upload_id: str) -> None:
        """Forget an upload with its parts.

        Raises:
            NotFoundError: there is no such upload.
            StateConflictError: its run was made.
        """

    def sweep(self) -> int:
        """Forget uploads whose run has ended, and those whose time is up and that made none; how many."""


class PolicyStore(Protocol):
    """Policies by name, their versions, and aliases with their history. A version's checkpoint is never deleted."""

    def create(
        self, name: str, *, description: str | None = None, gate: Gate | None = None, by: str | None = None
    ) -> tuple[Policy, bool]:
        """Make a policy, and whether it was made now; the same one again is answered as it is.

        Raises:
            StateConflictError: there is one of this name with another description or gate.
        """

    def get(self, name: str) -> Policy:
        """The policy; raises :class:`NotFoundError`."""

    def list(self, *, name: str | None = None, limit: int = 50, cursor: str | None = None) -> Page:
        """Policies by name, without their aliases; of those alone whose name has ``name`` in it, in any case."""

    def edit(self, name: str, changes: Mapping[str, Any]) -> Policy:
        """Change ``description`` or ``gate``; what is not named stays."""

    def delete(self, name: str) -> None:
        """Forget a policy and the history of its aliases; raises :class:`StateConflictError` while it has versions."""

    def add_version(
        self, name: str, checkpoint: str, *, note: str | None = None, by: str | None = None
    ) -> tuple[PolicyVersion, bool]:
        """Give a checkpoint the next number, and whether it was given now: the same one again has its number.

        Raises:
            NotFoundError: there is no such policy or checkpoint.
        """

    def resolve(self, name: str, *, alias: str | None = None, number: int | None = None) -> PolicyVersion:
        """The version under a number, or the one that an alias names; raises :class:`NotFoundError`."""

    def versions(self, name: str, *, limit: int = 50, cursor: str | None = None) -> Page:
        """Versions of a policy, newest first."""

    def delete_version(self, name: str, number: int) -> None:
        """Forget a version; its number is not given again.

        Raises:
            NotFoundError: there is no such policy or version.
            StateConflictError: an alias names it or sends it traffic, or named it last and is guarded by a gate.
        """

    def alias(self, name: str, alias: str) -> PolicyAlias:
        """What an alias names; raises :class:`NotFoundError`."""

    def move(
        self,
        name: str,
        alias: str,
        version: int | None,
        *,
        kind: MoveKind,
        revision: int | None,
        reason: str | None = None,
        by: str | None = None,
        evidence: Mapping[str, Any] | None = None,
    ) -> PolicyAlias | None:
        """Let an alias name a version, or nothing, and write its history.

        Args:
            name: of the policy.
            alias: its name.
            version: None deletes the alias.
            kind: for the history.
            revision: the one that the alias has to have still; None where there must be none.
            reason: why.
            by: who: a token's id.
            evidence: what opened the gate.

        Raises:
            NotFoundError: there is no such policy or version.
            RevisionConflictError: the alias has another revision, or there is one, or none.
            StateConflictError: the policy would have too many aliases.
        """

    def split(
        self,
        name: str,
        alias: str,
        traffic: Traffic | None,
        *,
        revision: int,
        reason: str | None = None,
        by: str | None = None,
    ) -> PolicyAlias:
        """Split the traffic of an alias, or end that by None, and write its history; the alias stays where it is.

        Raises:
            NotFoundError: there is no such policy, alias or version.
            RevisionConflictError: the alias has another revision.
        """

    def history(self, name: str, alias: str, *, limit: int = 50, cursor: str | None = None) -> Page:
        """Moves of an alias, newest first; those of one that was deleted, too."""


class SweepStore(Protocol):
    """Sweeps, their jobs, and how these ended."""

    def create(
        self,
        new: NewSweep,
        idempotency: tuple[str, str] | None = None,
        *,
        by: str | None = None,
    ) -> tuple[Sweep, bool]:
        """Store a sweep and make its first runs; see :meth:`RunStore.create`."""

    def submitted(self, key: str, digest: str) -> Sweep | None:
        """The sweep that an idempotency key has made; raises :class:`IdempotencyConflictError`."""

    def get(self, sweep_id: str) -> Sweep:
        """The sweep with counts and best; raises :class:`NotFoundError`."""

    def list(self, *, state: SweepState | None = None, limit: int = 50, cursor: str | None = None) -> Page:
        """Sweeps, newest first, with counts and best."""

    def jobs(self, sweep_id: str, *, limit: int = 50, cursor: str | None = None) -> Page:
        """Its jobs, by number."""

    def trials(self, sweep_id: str) -> Wanted:
        """All its trials, and the revision that they belong to."""

    def active(self) -> Sequence[str]:
        """Ids of those that have not ended."""

    def curves(self, sweep_id: str, *, without: Collection[int] = ()) -> Curves | None:
        """What the runs of a sweep have reached so far, but for some jobs; None where nobody gives them up."""

    def prune(self, sweep_id: str, pruned: Mapping[int, tuple[int, float]]) -> None:
        """Give jobs up: number → epoch, and what was reached there; their runs are cancelled where they still go on."""

    def advance(self, sweep_id: str, judged: Mapping[int, int] | None = None) -> Wanted | None:
        """Do what is to be done now, in one transaction: note how runs ended, make the next ones, end the sweep.

        Again at once changes nothing. Returns the trials that a search is to propose; ``n`` is 0 where there are more
        runs to make than one transaction takes.

        Args:
            sweep_id: the sweep.
            judged: job → last epoch that a pruner has looked at; without it the end of no run is noted that a pruner
                has to look at.
        """

    def propose(
        self,
        sweep_id: str,
        revision: int,
        jobs: Sequence[NewJob],
        idempotency: tuple[str, str] | None = None,
    ) -> bool:
        """Store proposed trials; False, and nothing is stored, where the sweep has another revision by now."""

    def asked(self, sweep_id: str, key: str, digest: str) -> Sequence[SweepJob] | None:
        """What was proposed with an idempotency key; None where nothing was.

        Raises:
            IdempotencyConflictError: it was with another body.
        """

    def change(self, sweep_id: str, verb: SweepVerb, *, by: str | None = None) -> Sweep:
        """Pause, resume, stop or cancel a sweep and its runs; again changes nothing.

        Raises:
            StateConflictError: its state does not allow this.
        """

    def fail(self, sweep_id: str, reason: str, message: str) -> None:
        """End a running sweep that cannot go on; its runs go on."""

    def tell(self, sweep_id: str, trial: int, state: JobState, value: float | None) -> Sweep:
        """How a trial ended that a client asked for; the same again changes nothing.

        Raises:
            NotFoundError: there is no such trial.
            StateConflictError: it was told otherwise before, or its run tells it.
        """

    def delete(self, sweep_id: str) -> None:
        """Forget a sweep that has ended; its runs stay.

        Raises:
            StateConflictError: it has not ended.
        """


class WebhookStore(Protocol):
    """Webhooks, and the messages that they get of ends of runs: written with the end itself, sent at least once."""

    def create(self, url: str, types: Sequence[str], secret: str, *, by: str | None = None) -> Webhook:
        """Make a webhook, or find the one that its maker made with the same URL, types and secret.

        Raises:
            StateConflictError: there are a hundred.
        """

    def get(self, webhook_id: str) -> Webhook:
        """One webhook; raises :class:`NotFoundError`."""

    def list(self, *, limit: int = 50, cursor: str | None = None) -> Page:
        """Webhooks, oldest first; raises ValueError for a cursor that is not ours."""

    def edit(
        self, webhook_id: str, *, url: str | None = None, types: Sequence[str] | None = None,
        is_enabled: bool | None = None,
    ) -> Webhook:  # fmt: skip
        """Change what is given; of one that is disabled, messages that wait have failed, and none are written.

        Raises:
            NotFoundError: there is no such webhook.
        """

    def delete(self, webhook_id: str) -> None:
        """Delete a webhook with its messages; raises :class:`NotFoundError`."""

    def test(self, webhook_id: str) -> Delivery:
        """Queue a message that tells of nothing; raises :class:`StateConflictError` where the webhook is disabled."""

    def deliveries(self, webhook_id: str, *, limit: int = 50, cursor: str | None = None) -> Page:
        """Messages of a webhook, newest first."""

    def due(self) -> Sequence[Webhook]:
        """Webhooks with messages that are due; who waits longest comes first."""

    def take(self, webhook_ids: Sequence[str]) -> Sequence[Due]:
        """Take of each webhook the message that is due longest, unless somebody else is taking it.

        Nobody else gets it for 20 s, after which it is due again.
        """

    def settle(self, due: Due, attempted: Attempted, *, retry_in_s: float | None) -> None:
        """Write how an attempt ended, unless somebody else has taken the message since.

        What was not taken by its receiver is due again after ``retry_in_s``, and has failed where that is None. Who
        answers that it is gone is disabled, and its other messages have failed.
        """

    def forget(self) -> None:
        """Delete messages of more than a week ago that wait no more."""


class ProjectStore(Protocol):
    """Projects, and what belongs to which one."""

    def owns(self, project: str, kind: str, id_: str) -> bool:
        """Whether this run, checkpoint, sweep, upload or webhook is there and the project's."""

    def get(self, name: str) -> Project:
        """A project; raises :class:`NotFoundError`."""

    def list(self) -> list[Project]:
        """All of them, by name."""

    def put(self, name: str, quotas: Mapping[str, Any]) -> tuple[Project, bool]:
        """Make a project or change its quotas, and whether it was made now."""


class AuditStore(Protocol):
    """Who changed what. What is done is noted by the stores that do it; see :mod:`service.domain.audit`."""

    def refuse(self, change: Change) -> None:
        """Note that somebody was refused this for want of a scope."""

    def rename(self, entry_id: str, subject: str) -> None:
        """Say what an entry is about, where only the answer told it."""

    def list(
        self,
        *,
        since: datetime | None = None,
        action: str | None = None,
        subject: str | None = None,
        token: str | None = None,
        project: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Entries, newest first.

        Args:
            since: only those of then or later.
            action: only those of this operation.
            subject: only those about this path, or one below it.
            token: only those of this token's id.
            project: only those in this project.
            limit: how many.
            cursor: from where.

        Raises:
            ValueError: the cursor is not ours.
        """

    def forget(self, days: float) -> None:
        """Delete entries of before so many days."""


class Stores(Protocol):
    """The stores of a process; each part of the service uses those that it needs."""

    @property
    def runs(self) -> RunStore:
        """Runs, their states and logs."""

    @property
    def checkpoints(self) -> CheckpointStore:
        """Checkpoint bundles."""

    @property
    def episodes(self) -> EpisodeStore:
        """Episodes of rollouts."""

    @property
    def registry(self) -> RegistryStore:
        """What workers publish and operators grant."""

    @property
    def sessions(self) -> SessionStore:
        """Which sessions there are."""

    @property
    def uploads(self) -> UploadStore:
        """Checkpoints on their way in."""

    @property
    def policies(self) -> PolicyStore:
        """Policies by name."""

    @property
    def sweeps(self) -> SweepStore:
        """Sweeps and their jobs."""

    @property
    def webhooks(self) -> WebhookStore:
        """Webhooks and their messages."""

    @property
    def projects(self) -> ProjectStore:
        """Projects, and what belongs to which one."""

    @property
    def audit(self) -> AuditStore:
        """Who changed what."""
