"""The tables. A change here needs a migration in ``alembic/versions``; a test compares the two.

Rows are not domain objects: ``run_rows.py`` and its neighbours map both ways.
"""

from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    UniqueConstraint,
)

from service.domain.audit import Outcome
from service.domain.policies import MoveKind
from service.domain.run import RunKind, RunState
from service.domain.sessions import SessionEnd
from service.domain.sharing import DEFAULT_PROJECT
from service.domain.sweep import JobState, SweepState
from service.domain.webhooks import DeliveryState
from service.store.types import CleanString, CleanText, JsonText, NanFloat, UtcDateTime

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    names = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({names})", name=f"known_{column}")


def _project() -> Column[str]:
    return Column("project", CleanString(64), nullable=False, server_default=DEFAULT_PROJECT)


def _run_id(*, primary_key: bool = True) -> Column[str]:
    return Column("run_id", CleanString(64), ForeignKey("run.id"), primary_key=primary_key, nullable=False)


run = Table(
    "run",
    metadata,
    Column("id", CleanString(64), primary_key=True),
    Column("kind", CleanString(16), nullable=False),
    Column("state", CleanString(16), nullable=False),
    Column("name", CleanText),
    Column("folded_name", CleanText),  # Of name, to be found in any case.
    Column("reason", CleanText),
    Column("stop_wish", CleanText),  # Of a client: user_cancel or user_pause.
    Column("phase", CleanText),
    Column("progress", JsonText, nullable=False),
    Column("latest_metrics", JsonText, nullable=False),
    Column("best", JsonText),
    Column("best_value", Float),  # Of best, to be sorted by; NULL where it is not finite.
    Column("result", JsonText),
    Column("error", JsonText),
    Column("seed", BigInteger),
    Column("request", JsonText, nullable=False),
    Column("config", JsonText, nullable=False),
    Column("config_sha256", CleanString(64)),
    Column("environment", CleanText),  # Of config, which is long, as lists show it.
    Column("algorithm", CleanText),
    Column("source_run", CleanString(64)),
    Column("source_checkpoint", CleanString(64)),
    Column("parent_run", CleanString(64)),
    Column("sweep", CleanString(64)),
    Column("continues", JsonText),
    Column("arguments", JsonText, nullable=False, server_default="{}"),
    Column("precedence", Integer, nullable=False, server_default="0"),  # Of waiting runs the least is first.
    Column("notes", CleanText),
    Column("revision", Integer, nullable=False, server_default="0"),
    Column("attempt", Integer, nullable=False, default=0),
    Column(
        "free_attempts", Integer, nullable=False, server_default="0"
    ),  # The first ones, which do not count.
    Column("worker", CleanText),
    Column("epoch_token", Integer, nullable=False, default=0),
    Column("lease_until", UtcDateTime),
    Column("last_seq", BigInteger, nullable=False, default=0),  # Of the newest event.
    Column("last_log_seq", BigInteger, nullable=False, default=0),  # Of the newest log line.
    Column("traceparent", CleanString(256)),  # Of the request that submitted it.
    Column("tracestate", CleanText),
    Column("created_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    _project(),
    _one_of("kind", RunKind),
    _one_of("state", RunState),
    CheckConstraint("attempt >= 0", name="attempt_counts"),
    Index("ix_run_queue", "state", "project", "precedence", "created_at", "id", "kind"),
    Index("ix_run_created_at_id", "project", "created_at", "id"),
    Index("ix_run_best_value", "project", "best_value", "id"),
    Index("ix_run_name", "project", "name", "id"),
    Index("ix_run_kind", "project", "kind", "created_at", "id"),
    Index("ix_run_finished_at", "finished_at"),
    Index("ix_run_source_checkpoint", "source_checkpoint"),
    Index("ix_run_sweep", "sweep", "created_at", "id"),
)

run_label = Table(
    "run_label",
    metadata,
    _run_id(),
    Column("key", CleanText, primary_key=True),
    Column("value", CleanText, nullable=False),
    Column(
        "created_at", UtcDateTime, nullable=False
    ),  # Of the run, whose place in a list of one label it is.
    Index("ix_run_label_value", "key", "value", "created_at", "run_id"),
    sqlite_with_rowid=False,
)

run_event = Table(
    "run_event",
    metadata,
    _run_id(),
    Column("seq", BigInteger, primary_key=True),  # Gapless per run, from 1.
    Column("at", UtcDateTime, nullable=False),
    Column("type", CleanString(16), nullable=False),
    Column("data", JsonText, nullable=False),
    Column("position", BigInteger, nullable=False, server_default="0"),  # Among the events of the project.
    _project(),  # Of the run.
    Index("ix_run_event_type", "project", "type", "position"),
    sqlite_with_rowid=False,
)

# Of each project the position of its newest event. Whoever takes positions holds it until the commit: so they are
# committed in order, and who reads up to one misses none before it.
event_counter = Table(
    "event_counter",
    metadata,
    Column("project", CleanString(64), primary_key=True),
    Column("position", BigInteger, nullable=False),
)

run_metric = Table(
    "run_metric",
    metadata,
    _run_id(),
    Column("epoch", Integer, primary_key=True),
    Column("name", CleanText, primary_key=True),
    Column("step", BigInteger, nullable=False),
    Column("value", NanFloat),  # NULL is NaN.
    Column("at", UtcDateTime, nullable=False),
    Index("ix_run_metric_name", "run_id", "name", "epoch"),
    sqlite_with_rowid=False,
)

run_log = Table(
    "run_log",
    metadata,
    _run_id(),
    Column("seq", BigInteger, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("level", CleanText, nullable=False),
    Column("message", CleanText, nullable=False),
    sqlite_with_rowid=False,
)

idempotency_key = Table(
    "idempotency_key",
    metadata,
    Column("key", CleanText, primary_key=True),
    Column("digest", CleanString(64), nullable=False),
    Column("run_id", CleanString(64), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

blob = Table(
    "blob",
    metadata,
    Column("sha256", CleanString(64), primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("in_file", Boolean, nullable=False),  # Bytes are in blob_dir/<sha256>, else in blob_chunk.
    Column("created_at", UtcDateTime, nullable=False),
)

blob_chunk = Table(
    "blob_chunk",
    metadata,
    Column("sha256", CleanString(64), ForeignKey("blob.sha256", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

# Of a blob that is stored in parts, in order: each part is a blob, which others may have too.
blob_part = Table(
    "blob_part",
    metadata,
    Column("sha256", CleanString(64), ForeignKey("blob.sha256", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("part_sha256", CleanString(64), ForeignKey("blob.sha256"), nullable=False),
    Index("ix_blob_part_part_sha256", "part_sha256"),
)

checkpoint = Table(
    "checkpoint",
    metadata,
    Column("id", CleanString(64), primary_key=True),
    _run_id(primary_key=False),
    Column("epoch", Integer, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("kind", CleanString(16), nullable=False),
    Column("metrics", JsonText, nullable=False),
    Column("content_sha256", CleanString(64), nullable=False),
    Column("weights_sha256", CleanString(64), nullable=False),
    Column("blob_sha256", CleanString(64), ForeignKey("blob.sha256"), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("servable", Boolean, nullable=False),
    Column("not_servable_reason", CleanText),
    Column("is_best", Boolean, nullable=False),
    Column("is_last", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    UniqueConstraint("run_id", "epoch", "kind"),
    Index("ix_checkpoint_blob_sha256", "blob_sha256"),
)

episode = Table(
    "episode",
    metadata,
    _run_id(),
    Column("index", Integer, primary_key=True),
    Column("seed", BigInteger),
    Column("episode_return", NanFloat),  # NULL is NaN.
    Column("length", Integer, nullable=False),
    Column("terminated", Boolean, nullable=False),
    Column("truncated", Boolean, nullable=False),
    Column("blob_sha256", CleanString(64), ForeignKey("blob.sha256")),
    Column("video_sha256", CleanString(64), ForeignKey("blob.sha256")),
    Column("thumbnail_sha256", CleanString(64), ForeignKey("blob.sha256")),
    Column("epoch", Integer),
    Column("moment", CleanText),
    Index("ix_episode_blob_sha256", "blob_sha256"),
    Index("ix_episode_video_sha256", "video_sha256"),
    Index("ix_episode_thumbnail_sha256", "thumbnail_sha256"),
)

worker = Table(
    "worker",
    metadata,
    Column("id", CleanText, primary_key=True),
    Column("info", JsonText, nullable=False),
    Column("last_seen_at", UtcDateTime, nullable=False),
)

environment = Table(
    "environment",
    metadata,
    Column("id", CleanText, primary_key=True),
    Column("worker", CleanText, primary_key=True),
    Column("is_available", Boolean, nullable=False),
    Column("info", JsonText, nullable=False),
    Column("published_at", UtcDateTime, nullable=False),
)

access_token = Table(
    "access_token",
    metadata,
    Column("id", CleanString(64), primary_key=True),
    Column("sha256", CleanString(64), nullable=False),  # Of the token's text, which is stored nowhere.
    Column("name", CleanText, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("revoked_at", UtcDateTime),
    _project(),
    Column("scopes", JsonText),  # NULL is none.
    Column("created_by", CleanText),  # The token that made it.
    Column("expires_at", UtcDateTime),
    Column("last_used_at", UtcDateTime),  # Written once an hour at most.
)

project = Table(
    "project",
    metadata,
    Column("name", CleanString(64), primary_key=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("share", Integer, nullable=False, server_default="1"),
    Column("max_running", Integer),
    Column("max_queued", Integer),
    Column("max_stored_mib", Integer),
)

ticket = Table(
    "ticket",
    metadata,
    Column("sha256", CleanString(64), primary_key=True),  # Of its text, which is stored nowhere.
    Column("token_id", CleanString(64)),
    _project(),
    Column("path", CleanText, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("id", CleanString(64), primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column(
        "token_id", CleanString(64)
    ),  # No reference: NULL is the command line, or nobody was asked for one.
    _project(),
    Column("action", CleanString(64), nullable=False),
    Column("subject", CleanText, nullable=False),
    Column("request_id", CleanString(64)),
    Column("outcome", CleanString(16), nullable=False),
    _one_of("outcome", Outcome),
    Index("ix_audit_at", "at"),
)

upload = Table(
    "upload",
    metadata,
    Column("id", CleanString(64), primary_key=True),
    Column("digest", CleanString(64), nullable=False),  # Of request and client: the same one goes on.
    Column("request", JsonText, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", CleanString(64), nullable=False),
    Column("part_bytes", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("created_by", CleanText),
    _project(),
    Index("ix_upload_digest", "digest"),
)

upload_part = Table(
    "upload_part",
    metadata,
    Column("upload_id", CleanString(64), ForeignKey("upload.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),  # From 0.
    Column("blob_sha256", CleanString(64), ForeignKey("blob.sha256"), nullable=False),
    Index("ix_upload_part_blob_sha256", "blob_sha256"),
)

# The checkpoints that a comparison plays, which no pruning may take before it has ended.
compared_checkpoint = Table(
    "compared_checkpoint",
    metadata,
    _run_id(),
    Column("place", Integer, primary_key=True),
    Column("checkpoint_id", CleanString(64), nullable=False),
    Index("ix_compared_checkpoint_checkpoint_id", "checkpoint_id"),
)

policy = Table(
    "policy",
    metadata,
    Column("name", CleanString(64), primary_key=True),
    Column("description", CleanText),
    Column("gate", JsonText),
    Column("n_versions", Integer, nullable=False),  # Ever made: no number is given again.
    Column("created_at", UtcDateTime, nullable=False),
    Column("created_by", CleanText),
    _project(),
)


def _policy() -> Column[str]:
    return Column("policy", CleanString(64), ForeignKey("policy.name"), primary_key=True)


policy_version = Table(
    "policy_version",
    metadata,
    _policy(),
    Column("number", Integer, primary_key=True),
    _run_id(primary_key=False),
    Column(  # Deferred: a resumed run replaces the row of a checkpoint that it makes again.
        "checkpoint_id",
        CleanString(64),
        ForeignKey("checkpoint.id", deferrable=True, initially="DEFERRED"),
        nullable=False,
    ),
    Column("content_sha256", CleanString(64), nullable=False),
    Column("note", CleanText),
    Column("created_at", UtcDateTime, nullable=False),
    Column("created_by", CleanText),
    UniqueConstraint("policy", "checkpoint_id"),
    Index("ix_policy_version_checkpoint_id", "checkpoint_id"),
    Index("ix_policy_version_run_id", "run_id"),
)

policy_alias = Table(
    "policy_alias",
    metadata,
    Column("policy", CleanString(64), primary_key=True),
    Column("alias", CleanString(64), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("revision", Integer, nullable=False),  # The seq of the last move.
    Column("moved_at", UtcDateTime, nullable=False),
    Column("traffic", JsonText),  # NULL where nothing is split.
    ForeignKeyConstraint(["policy", "version"], ["policy_version.policy", "policy_version.number"]),
    Index("ix_policy_alias_version", "policy", "version"),
)

policy_move = Table(
    "policy_move",
    metadata,
    _policy(),
    Column("alias", CleanString(64), primary_key=True),
    Column("seq", Integer, primary_key=True),  # Gapless per alias, from 1.
    Column("kind", CleanString(16), nullable=False),
    Column("from_version", Integer),
    Column("to_version", Integer),
    Column("reason", CleanText),
    Column("by", CleanText),
    Column("at", UtcDateTime, nullable=False),
    Column("evidence", JsonText),
    _one_of("kind", MoveKind),
)

# Of each metric the value at its last epoch, to sort runs by; run.latest_metrics holds the same to be shown.
run_latest = Table(
    "run_latest",
    metadata,
    _run_id(),
    Column("name", CleanText, primary_key=True),
    Column("value", NanFloat),  # NULL is NaN.
    Index("ix_run_latest_value", "name", "value", "run_id"),
    sqlite_with_rowid=False,
)

# Least and greatest value of a metric within as many epochs as it is wide, where a later epoch has begun.
run_extreme = Table(
    "run_extreme",
    metadata,
    _run_id(),
    Column("name", CleanText, primary_key=True),
    Column("width", Integer, primary_key=True, autoincrement=False),
    Column("begin", Integer, primary_key=True, autoincrement=False),
    Column("low", Double),
    Column("low_epoch", Integer),
    Column("high", Double),
    Column("high_epoch", Integer),
    Column("nan_epoch", Integer),
    sqlite_with_rowid=False,
)

sweep = Table(
    "sweep",
    metadata,
    Column("id", CleanString(64), primary_key=True),
    Column("state", CleanString(16), nullable=False),
    Column("reason", CleanText),
    Column("name", CleanText),
    Column("labels", JsonText, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("parallel", Integer),
    Column("request", JsonText, nullable=False),
    Column("spec", JsonText, nullable=False),
    Column("error", JsonText),
    Column("revision", Integer, nullable=False, server_default="0"),
    Column("created_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    _project(),
    _one_of("state", SweepState),
    Index("ix_sweep_state", "state", "created_at", "id"),
    Index("ix_sweep_created_at_id", "created_at", "id"),
)

sweep_job = Table(
    "sweep_job",
    metadata,
    Column("sweep_id", CleanString(64), ForeignKey("sweep.id"), primary_key=True),
    Column("job", Integer, primary_key=True),  # Its number, as in a multirun.
    Column("trial", Integer, nullable=False),  # Jobs of one trial differ in their seeds alone.
    Column("choices", JsonText, nullable=False),
    Column("plan", JsonText),  # What its run is made of; NULL when it is made, or where there is none.
    Column("run_id", CleanString(64)),  # No reference: an ended run may be deleted.
    Column("state", CleanString(16), nullable=False),
    Column("reason", CleanText),
    Column("value", Float),
    Column("pruned_at", Integer),
    _one_of("state", JobState),
    sqlite_with_rowid=False,
)

webhook = Table(
    "webhook",
    metadata,
    Column("id", CleanString(64), primary_key=True),
    Column("url", CleanText, nullable=False),
    Column("types", JsonText, nullable=False),
    Column("secret", CleanText, nullable=False),  # As it is: messages are signed with it.
    Column("created_by", CleanText),
    Column("created_at", UtcDateTime, nullable=False),
    Column("disabled_at", UtcDateTime),
    Column("disabled_reason", CleanText),
    _project(),
)

# A message outlives its run.
webhook_delivery = Table(
    "webhook_delivery",
    metadata,
    Column("id", CleanString(64), primary_key=True),
    Column("webhook_id", CleanString(64), ForeignKey("webhook.id"), nullable=False),
    Column("run_id", CleanString(64)),
    Column("type", CleanString(32), nullable=False),
    Column("body", CleanText, nullable=False),
    Column("state", CleanString(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("due_at", UtcDateTime, nullable=False),
    Column("delivered_at", UtcDateTime),
    Column("status", Integer),
    Column("error", CleanText),
    Column("response", CleanText),
    Column("traceparent", CleanString(256)),
    Column("tracestate", CleanText),
    _one_of("state", DeliveryState),
    Index("ix_webhook_delivery_due", "webhook_id", "state", "due_at"),
    Index("ix_webhook_delivery_webhook_id", "webhook_id", "id"),
)

# What is open when the service dies ends with it: what a session carries is in its process, or in a snapshot.
session = Table(
    "session",
    metadata,
    Column("id", CleanString(64), primary_key=True),
    _project(),
    Column(
        "checkpoint_id", CleanString(64), nullable=False
    ),  # No reference: kept while it is open, no longer.
    Column("run_id", CleanString(64)),  # That it records to.
    Column("created_by", CleanText),
    Column("created_at", UtcDateTime, nullable=False),
    Column("snapshot", LargeBinary),
    Column("reason", CleanString(16)),
    Column("last_seq", BigInteger),
    Column("ended_at", UtcDateTime),
    _one_of("reason", SessionEnd),
    Index("ix_session_ended_at", "ended_at"),
)
