"""The sweep store over SQLAlchemy: each method is one transaction, under the lock of the sweep's row where it writes.

What is to be done is said by :func:`~service.domain.sweep.next_step`; here it is read for and written down.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, case, delete, func, insert, literal, select, tuple_, update

from service.domain.cursors import BAD_CURSOR, decode_cursor, encode_cursor, page_of
from service.domain.errors import IdempotencyConflictError, NotFoundError, StateConflictError
from service.domain.run import NewRun, Page, RunKind, RunState, StopReason
from service.domain.sweep import (
    NO_VALUE,
    Curves,
    JobState,
    NewJob,
    NewSweep,
    Step,
    Sweep,
    SweepJob,
    SweepSpec,
    SweepState,
    SweepVerb,
    Wanted,
    next_step,
    state_after,
    trials_of,
    value_of,
)
from service.domain.use_cases import TERMINAL_STATES, new_run_id
from service.store.engine import Database
from service.store.projects import left, require_quota
from service.store.run_rows import LockedRun, write_all
from service.store.runs import insert_run, resume_run, stop_run
from service.store.tables import idempotency_key, run, run_metric, sweep, sweep_job
from service.store.types import UtcDateTime, in_project, now, upsert

AT_ONCE = 50
"""Runs that one transaction makes."""
_LISTED = tuple(column for column in sweep.c if column.name != "request")
_SHOWN_STATE = case(
    (sweep_job.c.state == JobState.MADE, func.coalesce(run.c.state, JobState.MADE.value)),
    else_=sweep_job.c.state,
)
_SHOWN = (
    select(
        sweep_job.c.job, sweep_job.c.trial, sweep_job.c.choices, sweep_job.c.run_id, sweep_job.c.value,
        sweep_job.c.pruned_at, _SHOWN_STATE.label("state"),
        func.coalesce(sweep_job.c.reason, run.c.reason).label("reason"),
    )
    .outerjoin(run, run.c.id == sweep_job.c.run_id)
    .order_by(sweep_job.c.job)
)  # fmt: skip
_IN_BRIEF = (
    select(
        sweep_job.c.job, sweep_job.c.state, sweep_job.c.value, sweep_job.c.run_id,
        run.c.state.label("run_state"),
    )
    .outerjoin(run, run.c.id == sweep_job.c.run_id)
    .order_by(sweep_job.c.job)
)  # fmt: skip


@dataclass
class _Look:
    """A sweep and its jobs, as one transaction sees them."""

    row: Row[Any]
    spec: SweepSpec
    jobs: list[Any]
    """Rows of ``_IN_BRIEF``."""
    ended: list[Any]
    """Those of them whose runs have ended or are gone, which is to be noted."""

    def step(self) -> Step:
        jobs = [(job.job, JobState(job.state), job.value) for job in self.jobs]
        return next_step(SweepState(self.row.state), self.row.reason, self.spec, self.row.parallel, jobs)


class SqlSweepStore:
    """:class:`~service.domain.ports.SweepStore` over SQLAlchemy; the port says what each method does."""

    def __init__(self, database: Database, *, max_queued: int) -> None:
        self._database = database
        self._max_queued = max_queued

    def create(
        self, new: NewSweep, idempotency: tuple[str, str] | None = None, *, by: str | None = None
    ) -> tuple[Sweep, bool]:
        """Store a sweep and make its first runs."""
        with self._database.writing() as connection:
            if idempotency is not None:
                key, digest = idempotency
                reserve = upsert(connection)(idempotency_key).values(
                    key=key, digest=digest, run_id=new.id, created_at=now()
                )
                taken = reserve.on_conflict_do_nothing().returning(idempotency_key.c.key)
                if connection.execute(taken).one_or_none() is None:
                    made = _made_with(connection, key, digest)
                    assert made is not None
                    return made, False
            facts = {name: getattr(new, name) for name in ("id", "name", "priority", "parallel", "project")}
            texts = {"labels": dict(new.labels), "request": dict(new.request), "spec": asdict(new.spec)}
            state = {"state": SweepState.RUNNING.value, "created_at": now()}
            require_quota(connection, new.project)
            connection.execute(insert(sweep).values(**facts, **texts, **state))
            _add_jobs(connection, new.id, new.jobs)
            self._advanced(connection, new.id)
            return _read(connection, new.id), True

    def submitted(self, key: str, digest: str) -> Sweep | None:
        """The sweep that an idempotency key has made."""
        with self._database.reading() as connection:
            return _made_with(connection, key, digest)

    def get(self, sweep_id: str) -> Sweep:
        """The sweep with counts and best."""
        with self._database.reading() as connection:
            return _read(connection, sweep_id)

    def list(
        self,
        *,
        project: str | None = None,
        state: SweepState | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Sweeps, newest first."""
        query = select(*_LISTED).where(*in_project(sweep, project))
        query = query.order_by(sweep.c.created_at.desc(), sweep.c.id.desc())
        if state is not None:
            query = query.where(sweep.c.state == state)
        if cursor is not None:
            text, sweep_id = decode_cursor(cursor, "sweeps", str, str)
            try:
                time = datetime.fromisoformat(text).astimezone(UTC)
            except (ValueError, OverflowError):
                raise ValueError(BAD_CURSOR) from None
            here = tuple_(literal(time, UtcDateTime()), sweep_id)
            query = query.where(tuple_(sweep.c.created_at, sweep.c.id) < here)
        with self._database.reading() as connection:
            rows = connection.execute(query.limit(limit + 1)).all()
            page = page_of(
                rows,
                limit,
                _sweep_of,
                lambda row: encode_cursor("sweeps", row.created_at.isoformat(), row.id),
            )
            return replace(page, data=_in_full(connection, page.data))

    def jobs(self, sweep_id: str, *, limit: int = 50, cursor: str | None = None) -> Page:
        """Its jobs, by number."""
        query = _SHOWN.where(sweep_job.c.sweep_id == sweep_id)
        if cursor is not None:
            query = query.where(sweep_job.c.job > decode_cursor(cursor, "jobs", int)[0])
        with self._database.reading() as connection:
            _row(connection, sweep_id)
            rows = connection.execute(query.limit(limit + 1)).all()
        return page_of(rows, limit, _job_of, lambda row: encode_cursor("jobs", row.job))

    def trials(self, sweep_id: str) -> Wanted:
        """All its trials, and the revision that they belong to."""
        with self._database.reading() as connection:
            return _wanted(connection, _row(connection, sweep_id), 0)

    def active(self) -> Sequence[str]:
        """Ids of those that have not ended."""
        live = [state for state in SweepState if not state.is_terminal]
        with self._database.reading() as connection:
            found = connection.execute(select(sweep.c.id).where(sweep.c.state.in_(live)))
            return list(found.scalars())

    def curves(self, sweep_id: str, *, without: Collection[int] = ()) -> Curves | None:
        """What the runs of a sweep have reached so far."""
        with self._database.reading() as connection:
            spec = SweepSpec(**_row(connection, sweep_id).spec)
            if not spec.has_pruner:
                return None
            states = select(sweep_job.c.job, sweep_job.c.state).where(sweep_job.c.sweep_id == sweep_id)
            rows = connection.execute(states.order_by(sweep_job.c.job))
            at_work = [row.job for row in rows if row.state == JobState.MADE]
            points = (
                select(sweep_job.c.job, run_metric.c.epoch, run_metric.c.value)
                .join(run_metric, run_metric.c.run_id == sweep_job.c.run_id)
                .where(sweep_job.c.sweep_id == sweep_id, run_metric.c.name == spec.metric_name)
                .where(sweep_job.c.job.not_in(without))
                .where(run_metric.c.epoch <= func.coalesce(sweep_job.c.pruned_at, run_metric.c.epoch))
            )
            curves: dict[int, dict[int, float]] = {job: {} for job in at_work}
            for row in connection.execute(points):
                curves.setdefault(row.job, {})[row.epoch] = -row.value if spec.minimize else row.value
        return Curves(spec=spec, curves=curves, at_work=at_work)

    def prune(self, sweep_id: str, pruned: Mapping[int, tuple[int, float]]) -> None:
        """Give jobs up."""
        with self._database.writing() as connection:
            row = _row(connection, sweep_id, is_locked=True)
            given_up: list[str] = []
            for number, (epoch, value) in pruned.items():
                ours = sweep_job.c.sweep_id == sweep_id, sweep_job.c.job == number
                told = {"state": JobState.PRUNED.value, "pruned_at": epoch, "reason": "pruned"}
                is_number = math.isfinite(value)
                told["value"] = (-value if row.spec["minimize"] else value) if is_number else None
                statement = update(sweep_job).where(*ours, sweep_job.c.state == JobState.MADE).values(told)
                given_up += connection.execute(statement.returning(sweep_job.c.run_id)).scalars()
            runs = LockedRun.several(connection, run.c.id.in_(given_up), run.c.state.not_in(TERMINAL_STATES))
            for locked in runs:
                stop_run(locked, StopReason.PRUNE, sweep_id)
            write_all(connection, runs)
            _change(connection, row)

    def advance(self, sweep_id: str, judged: Mapping[int, int] | None = None) -> Wanted | None:
        """Do what is to be done now."""
        with (
            self._database.reading() as connection
        ):  # most often that is nothing, for which nobody has to wait
            look = _look(connection, sweep_id, judged)
            step = look.step()
            if not look.ended and not step.make and step.end is None:
                return _wanted(connection, look.row, step.n_asks) if step.n_asks else None
        with self._database.writing() as connection:
            return self._advanced(connection, sweep_id, judged)

    def propose(
        self,
        sweep_id: str,
        revision: int,
        jobs: Sequence[NewJob],
        idempotency: tuple[str, str] | None = None,
    ) -> bool:
        """Store proposed trials."""
        with self._database.writing() as connection:
            row = _row(connection, sweep_id, is_locked=True)
            if row.revision != revision or row.state != SweepState.RUNNING:
                return False
            if idempotency is not None:
                key, digest = idempotency
                place = f"{sweep_id}/{jobs[0].job}/{len(jobs)}"
                row_of_key = {"key": key, "digest": digest, "run_id": place, "created_at": now()}
                connection.execute(insert(idempotency_key).values(row_of_key))
            _add_jobs(connection, sweep_id, jobs)
            _change(connection, row)
            self._advanced(connection, sweep_id)
            return True

    def asked(self, sweep_id: str, key: str, digest: str) -> Sequence[SweepJob] | None:
        """What was proposed with an idempotency key."""
        with self._database.reading() as connection:
            if (place := _made_by(connection, key, digest)) is None:
                return None
            first, count = map(int, place.split("/")[1:])
            return _jobs(connection, sweep_id, sweep_job.c.job.between(first, first + count - 1))

    def change(self, sweep_id: str, verb: SweepVerb, *, by: str | None = None) -> Sweep:
        """Pause, resume, stop or cancel a sweep and its runs."""
        with self._database.writing() as connection:
            row = _row(connection, sweep_id, is_locked=True)
            state = SweepState(row.state)
            leads = state_after(sweep_id, state, verb)
            reason = None if verb is SweepVerb.RESUME else _reason(verb)
            if state is not leads or (verb is SweepVerb.CANCEL and row.reason != reason):
                _change(connection, row, state=leads.value, reason=reason)
            if leads is SweepState.STOPPING:
                _drop_waiting(connection, sweep_id)
            # also where the sweep is there already: one of its runs may have been steered by itself
            is_live = run.c.state.not_in(TERMINAL_STATES)
            runs = LockedRun.several(connection, run.c.sweep == sweep_id, is_live)
            if verb is SweepVerb.RESUME and (n := sum(locked.state is RunState.PAUSED for locked in runs)):
                require_quota(connection, row.project, n)
            for locked in runs:
                _steer(locked, verb, by)
            write_all(connection, runs)
            self._advanced(connection, sweep_id)
            return _read(connection, sweep_id)

    def fail(self, sweep_id: str, reason: str, message: str) -> None:
        """End a running sweep that cannot go on."""
        with self._database.writing() as connection:
            row = _row(connection, sweep_id, is_locked=True)
            if row.state == SweepState.RUNNING:
                error = {"code": reason, "message": message}
                _end(connection, row, SweepState.FAILED, reason, error=error)

    def tell(self, sweep_id: str, trial: int, state: JobState, value: float | None) -> Sweep:
        """How a trial ended that a client asked for."""
        with self._database.writing() as connection:
            row = _row(connection, sweep_id, is_locked=True)
            ours = sweep_job.c.sweep_id == sweep_id, sweep_job.c.trial == trial
            known = connection.execute(select(sweep_job).where(*ours)).first()
            if known is None:
                raise NotFoundError(f"sweep {sweep_id} has no trial {trial}")
            if known.run_id is not None or known.plan is not None:
                raise StateConflictError(f"trial {trial} is run by the service, which sees how good it is")
            if known.state == JobState.ASKED:
                told = {"state": state.value, "value": value}
                connection.execute(update(sweep_job).where(*ours).values(told))
                _change(connection, row)
                self._advanced(connection, sweep_id)
            elif (known.state, known.value) != (state, value):
                message = f"trial {trial} is {known.state} with value {known.value} already"
                raise StateConflictError(message, state=known.state)
            return _read(connection, sweep_id)

    def delete(self, sweep_id: str) -> None:
        """Forget a sweep; its runs stay."""
        with self._database.writing() as connection:
            row = _row(connection, sweep_id, is_locked=True)
            if not SweepState(row.state).is_terminal:
                message = f"sweep {sweep_id} is {row.state}; cancel it first"
                raise StateConflictError(message, state=row.state)
            connection.execute(update(run).where(run.c.sweep == sweep_id).values(sweep=None))
            connection.execute(delete(sweep_job).where(sweep_job.c.sweep_id == sweep_id))
            made = idempotency_key.c.run_id
            ours = (made == sweep_id) | made.startswith(f"{sweep_id}/", autoescape=True)
            connection.execute(delete(idempotency_key).where(ours))
            connection.execute(delete(sweep).where(sweep.c.id == sweep_id))

    def _advanced(
        self, connection: Connection, sweep_id: str, judged: Mapping[int, int] | None = None
    ) -> Wanted | None:
        """What :meth:`advance` does, once the sweep is locked."""
        row = _row(connection, sweep_id, is_locked=True)
        look = _look(connection, sweep_id, judged)
        if look.ended:
            _note_ends(connection, look)
            look = _look(connection, sweep_id)
            _change(connection, row)
        step = look.step()
        due = step.make[
            : max(0, min(AT_ONCE, self._max_queued - _n_queued(connection), left(connection, row.project)))
        ]
        if due:
            _make_runs(connection, row, due)
            _change(connection, row)
        if step.end is not None:
            state, reason = step.end
            _end(connection, row, state, reason, error=_no_value(look) if reason == NO_VALUE else None)
        if step.n_asks:
            return _wanted(connection, _row(connection, sweep_id), step.n_asks)
        has_more = bool(due) and len(due) < len(step.make)
        return _wanted(connection, row, 0) if has_more else None


def _row(connection: Connection, sweep_id: str, *, is_locked: bool = False) -> Row[Any]:
    query = select(sweep).where(sweep.c.id == sweep_id)
    row = connection.execute(query.with_for_update() if is_locked else query).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no sweep {sweep_id}", sweep_id=sweep_id)
    return row


def _look(connection: Connection, sweep_id: str, judged: Mapping[int, int] | None = None) -> _Look:
    row = _row(connection, sweep_id)
    spec = SweepSpec(**row.spec)
    jobs = connection.execute(_IN_BRIEF.where(sweep_job.c.sweep_id == sweep_id)).all()
    states = (None, *TERMINAL_STATES)
    ended = [job for job in jobs if job.state == JobState.MADE and job.run_state in states]
    if spec.has_pruner:
        ended = _seen_by_pruner(connection, spec, ended, judged or {})
    return _Look(row, spec, list(jobs), ended)


def _seen_by_pruner(
    connection: Connection, spec: SweepSpec, jobs: Sequence[Any], judged: Mapping[int, int]
) -> list[Any]:
    """Those of the jobs of which a pruner has seen all that their runs have reached."""
    points = run_metric.c.run_id.in_([job.run_id for job in jobs]), run_metric.c.name == spec.metric_name
    newest = select(run_metric.c.run_id, func.max(run_metric.c.epoch)).where(*points)
    last = {run_id: epoch for run_id, epoch in connection.execute(newest.group_by(run_metric.c.run_id))}
    return [job for job in jobs if judged.get(job.job, 0) >= last.get(job.run_id, 0)]


def _wanted(connection: Connection, row: Row[Any], n: int) -> Wanted:
    trials = trials_of(_jobs(connection, row.id))
    return Wanted(sweep=row.id, spec=SweepSpec(**row.spec), trials=trials, n=n, revision=row.revision)


def _add_jobs(connection: Connection, sweep_id: str, jobs: Sequence[NewJob]) -> None:
    if jobs:
        rows = [{"sweep_id": sweep_id, **_job_values(job)} for job in jobs]
        connection.execute(insert(sweep_job), rows)


def _job_values(job: NewJob) -> dict[str, Any]:
    without = JobState.FAILED if job.error else JobState.ASKED
    state = without if job.plan is None else JobState.PLANNED
    facts = {"job": job.job, "trial": job.trial, "choices": dict(job.choices)}
    return {**facts, "plan": job.plan and dict(job.plan), "state": state.value, "reason": job.error}


def _make_runs(connection: Connection, row: Row[Any], numbers: Sequence[int]) -> None:
    ours = sweep_job.c.sweep_id == row.id
    planned = select(sweep_job).where(ours, sweep_job.c.job.in_(numbers)).order_by(sweep_job.c.job)
    runs = []
    for job in connection.execute(planned).all():
        new = NewRun(
            id=new_run_id(),
            kind=RunKind.TRAIN,
            request={"choices": job.choices},
            name=row.name and f"{row.name} {job.job}",
            labels=row.labels,
            priority=row.priority,
            sweep=row.id,
            project=row.project,
            arguments={name: row.request[name] for name in ("resources",) if row.request.get(name)},
            **job.plan,
        )
        try:
            runs.append(insert_run(connection, new, row.id))
            made: dict[str, Any] = {"run_id": new.id, "state": JobState.MADE.value, "plan": None}
        except NotFoundError as error:  # what it begins with is gone
            made = {"state": JobState.FAILED.value, "reason": str(error), "plan": None}
        connection.execute(update(sweep_job).where(ours, sweep_job.c.job == job.job).values(made))
    write_all(connection, runs)


def _note_ends(connection: Connection, look: _Look) -> None:
    """Keep how jobs' runs ended: the runs may be deleted."""
    run_ids = [job.run_id for job in look.ended]
    ends = select(run.c.id, run.c.state, run.c.reason, run.c.result).where(run.c.id.in_(run_ids))
    found = {row.id: row for row in connection.execute(ends)}
    values = {row.id: (row.result or {}).get("best_value") for row in found.values()}
    if look.spec.metric is not None:
        best = (func.min if look.spec.minimize else func.max)(run_metric.c.value)
        points = run_metric.c.run_id.in_(run_ids), run_metric.c.name == look.spec.metric
        metric = select(run_metric.c.run_id, best).where(*points).group_by(run_metric.c.run_id)
        values = {run_id: value for run_id, value in connection.execute(metric)}
    noted = []
    for job in look.ended:
        state, reason = RunState.FAILED, "deleted"
        if job.run_id in found:
            state, reason = RunState(found[job.run_id].state), found[job.run_id].reason
        value = value_of(state, values.get(job.run_id))
        noted.append({"of_job": job.job, "state": state.value, "reason": reason, "value": value})
    ours = sweep_job.c.sweep_id == look.row.id, sweep_job.c.job == bindparam("of_job")
    connection.execute(update(sweep_job).where(*ours), noted)


def _no_value(look: _Look) -> dict[str, str]:
    """What is told of a sweep whose runs succeeded without what they are compared by."""
    n_ended = sum(job.state == JobState.SUCCEEDED for job in look.jobs)
    metric = look.spec.metric or "a best evaluation"
    way_out = "name another metric that they have (GET /v1/runs/{id}/metrics)"
    return {"code": NO_VALUE, "message": f"{n_ended} runs succeeded, none of them has {metric}; {way_out}."}


def _drop_waiting(connection: Connection, sweep_id: str) -> None:
    waiting = sweep_job.c.state.in_([JobState.PLANNED, JobState.ASKED])
    ours = update(sweep_job).where(sweep_job.c.sweep_id == sweep_id, waiting)
    connection.execute(ours.values(state=JobState.CANCELLED.value, plan=None))


def _end(connection: Connection, row: Row[Any], state: SweepState, reason: str, **facts: Any) -> None:
    _drop_waiting(connection, row.id)
    _change(connection, row, state=state.value, reason=reason, finished_at=now(), **facts)


def _change(connection: Connection, row: Row[Any], **columns: Any) -> None:
    changed = {**columns, "revision": sweep.c.revision + 1}
    connection.execute(update(sweep).where(sweep.c.id == row.id).values(changed))


def _reason(verb: SweepVerb) -> str:
    return f"user_{verb}"


def _steer(locked: LockedRun, verb: SweepVerb, by: str | None) -> None:
    """Do with a run what is wanted of its sweep."""
    is_pausing = locked.state is RunState.STOPPING and locked.row.stop_wish == StopReason.PAUSE
    is_paused = is_pausing or locked.state is RunState.PAUSED
    if verb is SweepVerb.CANCEL:
        stop_run(locked, StopReason.CANCEL, by)
    elif verb is SweepVerb.PAUSE and not is_paused:
        stop_run(locked, StopReason.PAUSE, by)
    elif verb in (SweepVerb.RESUME, SweepVerb.STOP) and is_paused:  # a run that is to end has to go on
        resume_run(locked, by)


def _n_queued(connection: Connection) -> int:
    queued = select(func.count()).where(run.c.state == RunState.QUEUED)
    return int(connection.execute(queued).scalar_one())


def _sweep_of(row: Row[Any]) -> Sweep:
    columns = dict(row._mapping)
    return Sweep(**{**columns, "state": SweepState(row.state), "spec": SweepSpec(**row.spec)})


def _jobs(connection: Connection, sweep_id: str, *where: Any) -> list[SweepJob]:
    rows = connection.execute(_SHOWN.where(sweep_job.c.sweep_id == sweep_id, *where))
    return [_job_of(row) for row in rows]


def _job_of(row: Any) -> SweepJob:
    return SweepJob(
        job=row.job,
        trial=row.trial,
        choices=row.choices,
        state=row.state,
        value=row.value,
        run=row.run_id,
        reason=row.reason,
        pruned_at=row.pruned_at,
    )


def _read(connection: Connection, sweep_id: str) -> Sweep:
    return _in_full(connection, [_sweep_of(_row(connection, sweep_id))])[0]


def _in_full(connection: Connection, found: Sequence[Sweep]) -> list[Sweep]:
    """Sweeps with counts and best: three queries, however many they are."""
    ours = sweep_job.c.sweep_id.in_([one.id for one in found])
    counted = (
        select(sweep_job.c.sweep_id, _SHOWN_STATE.label("state"), func.count().label("n"))
        .select_from(sweep_job)
        .outerjoin(run, run.c.id == sweep_job.c.run_id)
        .where(ours)
        .group_by(sweep_job.c.sweep_id, _SHOWN_STATE)
    )
    counts: dict[str, dict[str, int]] = {one.id: {} for one in found}
    for row in connection.execute(counted):
        counts[row.sweep_id][row.state] = row.n
    mean = func.avg(sweep_job.c.value)
    is_low = sweep_job.c.sweep_id.in_([one.id for one in found if one.spec.minimize])
    order = case((is_low, mean), else_=-mean), sweep_job.c.trial
    ranked = (
        select(
            sweep_job.c.sweep_id,
            sweep_job.c.trial,
            func.row_number().over(partition_by=sweep_job.c.sweep_id, order_by=order).label("place"),
        )
        .where(ours, sweep_job.c.state != JobState.PRUNED)
        .group_by(sweep_job.c.sweep_id, sweep_job.c.trial)
        .having(func.count(sweep_job.c.value) == func.count())
        .subquery()
    )
    first = select(ranked.c.sweep_id, ranked.c.trial).where(ranked.c.place == 1)
    pairs = [tuple(row) for row in connection.execute(first)]
    jobs: dict[str, list[SweepJob]] = {}
    of_best = tuple_(sweep_job.c.sweep_id, sweep_job.c.trial).in_(pairs)
    for row in connection.execute(_SHOWN.add_columns(sweep_job.c.sweep_id).where(of_best)):
        jobs.setdefault(row.sweep_id, []).append(_job_of(row))
    best = {sweep_id: trials_of(of_trial)[0] for sweep_id, of_trial in jobs.items()}
    return [replace(one, counts=counts[one.id], best=best.get(one.id)) for one in found]


def _made_with(connection: Connection, key: str, digest: str) -> Sweep | None:
    made = _made_by(connection, key, digest)
    return None if made is None else _read(connection, made)


def _made_by(connection: Connection, key: str, digest: str) -> str | None:
    """What an idempotency key has made: a sweep, or jobs of one, as ``sweep/first/count``."""
    known = connection.execute(select(idempotency_key).where(idempotency_key.c.key == key)).one_or_none()
    if known is None:
        return None
    if known.digest != digest:
        message = f"this Idempotency-Key made sweep {known.run_id} with another body; use a new key"
        raise IdempotencyConflictError(message, run_id=known.run_id)
    made: str = known.run_id
    return made
