"""Checkpoints as files: taken away, and brought in.

What comes in is sent in parts, each with its digest, in any order and again wherever one was lost. When it is complete
a run checks it; until then nothing acts with it, and afterwards it is that run's checkpoint.
"""

import hashlib
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import AliasChoices, Field, StringConstraints
from starlette.concurrency import run_in_threadpool

from service.api.answers import CheckpointOut, Listing, Out, RunOut, Time, again
from service.api.bodies import Labelled, StrictRoute, Title
from service.api.dependencies import CallerDep, PageDep, Services, ServicesDep, page_of, require_scope
from service.api.stored_bytes import bytes_body, gives_bytes, said_sha256, stored_bytes
from service.api.submit import ENDED, Chosen, SubmissionDep
from service.domain.errors import NotFoundError, StateConflictError
from service.domain.run import CheckpointInfo, Page, Run, RunKind
from service.domain.sharing import Scope
from service.domain.upload import (
    MAX_OPEN,
    MAX_OPEN_OF_ONE,
    MAX_PART_BYTES,
    NewUpload,
    Upload,
    run_id_of,
    upload_id_of,
)
from service.domain.use_cases import new_run_id, request_digest
from service.problems import Problem
from service.settings import MIB

router = APIRouter(
    prefix="/v1/checkpoints",
    tags=["checkpoints"],
    route_class=StrictRoute,
    dependencies=[require_scope(Scope.RUNS_READ, changing=Scope.RUNS_WRITE)],
)

MEDIA_TYPE = "application/octet-stream"
"""Which generated clients read as bytes; the bundle is a ZIP file."""
SUFFIX = ".ckpt"

UploadId = Annotated[str, Path(pattern="^upl_[0-9a-z]{1,40}$", description="Id of an upload.")]
CheckpointId = Annotated[str, Path(pattern="^[A-Za-z0-9_-]{1,64}$", description="Id of a checkpoint.")]
PartNumber = Annotated[int, Path(ge=0, lt=1_000_000, description="Number of the part, from 0.")]


class ImportRequest(Labelled):
    """Announce a checkpoint that is sent next; name, labels and priority are those of the run that checks it."""

    size_bytes: Annotated[int, Field(ge=1)]
    """Of the file."""
    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
    """Of the file, in lower-case hex."""


class UploadOut(Out):
    """A checkpoint on its way in."""

    id: str
    size_bytes: int
    sha256: str
    part_bytes: int
    """Of every part but the last, which has the rest."""
    n_parts: int
    parts: list[int]
    """Numbers of the parts that are stored; the first is 0."""
    run: str = Field(validation_alias=AliasChoices("run_id", "run"))
    """Id of the run that ``complete`` makes."""
    created_at: Time
    expires_at: Time
    """When it is forgotten, unless it is complete."""


@router.post("", status_code=201, response_model=UploadOut, responses=again(UploadOut))
def begin_upload(body: ImportRequest, services: ServicesDep, response: Response, caller: CallerDep) -> Upload:
    """Begin to import a checkpoint; asked again, the same upload goes on (200)."""
    digest = request_digest(RunKind.IMPORT, {**body.given(), "by": caller.token_id})
    upload, is_new = _begun(services, body, upload_id_of(new_run_id()), digest, caller.token_id)
    response.headers["Location"] = f"/v1/checkpoints/uploads/{upload.id}"
    response.status_code = 201 if is_new else 200
    return upload


@router.post(
    "/import",
    status_code=202,
    response_model=RunOut,
    responses=ENDED,
    openapi_extra=bytes_body("Repr-Digest"),
)
async def import_checkpoint(
    request: Request,
    submission: SubmissionDep,
    name: Annotated[Title | None, Query(description="Of the run, for people.")] = None,
) -> Run:
    """Import a small checkpoint in one request: its bytes as the body, and their digest in `Repr-Digest`."""
    data, sha256 = await request.body(), said_sha256(request)
    _require_digest(data, sha256)
    if not data:
        raise Problem("invalid_request", "The body is the checkpoint's bytes, and it is empty.")
    body = ImportRequest(size_bytes=len(data), sha256=sha256, name=name)
    services, upload_id, run = submission.services, upload_id_of(new_run_id()), None
    choose = partial(_sent_at_once, services, body, data, upload_id, submission.caller.token_id)
    try:
        run = await submission.answer(RunKind.IMPORT, body, choose)
        return run
    finally:
        if run is None or run.id != run_id_of(upload_id):  # nobody asks for these bytes again
            with suppress(NotFoundError, StateConflictError):
                await run_in_threadpool(services.uploads.drop, upload_id)


@router.get("/uploads", response_model=Listing[UploadOut])
def list_uploads(query: PageDep, services: ServicesDep, caller: CallerDep) -> Page:
    """One's own uploads that are not complete, newest first: those of the token that asks."""
    return page_of(services.uploads.list, caller.token_id, query=query)


@router.get("/uploads/{upload_id}", response_model=UploadOut)
def get_upload(upload_id: UploadId, services: ServicesDep) -> Upload:
    """An upload, and which parts are there."""
    return services.uploads.get(upload_id)


@router.delete("/uploads/{upload_id}", status_code=204)
def drop_upload(upload_id: UploadId, services: ServicesDep) -> Response:
    """Give an upload up that is not complete, with the parts that came."""
    services.uploads.drop(upload_id)
    return Response(status_code=204)


@router.put(
    "/uploads/{upload_id}/parts/{number}",
    response_model=UploadOut,
    openapi_extra=bytes_body("Content-Digest"),
)
async def put_part(
    upload_id: UploadId, number: PartNumber, request: Request, services: ServicesDep
) -> Upload:
    """Send one part, in any order, with its digest in `Content-Digest`; sent again it takes the place of the first."""
    data, sha256 = await request.body(), said_sha256(request)
    _require_digest(data, sha256)
    return await run_in_threadpool(_store_part, services, upload_id, number, data)


@router.post("/uploads/{upload_id}/complete", status_code=202, response_model=RunOut, responses=ENDED)
async def complete_upload(upload_id: UploadId, submission: SubmissionDep) -> Run:
    """Import what was sent: a run of kind `import` checks it, and has it as its checkpoint when it has succeeded."""
    services = submission.services
    try:
        upload = await run_in_threadpool(services.uploads.get, upload_id)
    except NotFoundError:  # a run that has ended has taken it along
        try:
            run = await run_in_threadpool(services.runs.get, run_id_of(upload_id))
        except NotFoundError:
            run = None
        if run is None:
            raise
        return await submission.told(run, False)
    body = ImportRequest.model_construct(**upload.request)  # was checked when it came
    named = replace(submission, key=upload.id)  # one run, however often it is asked for
    return await named.answer(RunKind.IMPORT, body, partial(_whole, services, upload))


@router.get("/{checkpoint_id}", **gives_bytes(MEDIA_TYPE))
def download_checkpoint(checkpoint_id: CheckpointId, request: Request, services: ServicesDep) -> Response:
    """A checkpoint as a file, for `load_agent` and `RunContext.load`; takes `Range`, and its ETag is its digest."""
    content = services.checkpoints.content(checkpoint_id)
    return stored_bytes(request, content, media_type=MEDIA_TYPE, filename=checkpoint_id + SUFFIX)


@router.get("/{checkpoint_id}/facts", response_model=CheckpointOut)
def get_checkpoint(checkpoint_id: CheckpointId, services: ServicesDep) -> CheckpointInfo:
    """What is known of a checkpoint."""
    return services.checkpoints.get(checkpoint_id)


def _begun(
    services: Services, body: ImportRequest, upload_id: str, digest: str, caller: str | None
) -> tuple[Upload, bool]:
    settings = services.settings
    if body.size_bytes > settings.max_import_mib * MIB:
        message = f"Checkpoints of up to {settings.max_import_mib} MiB are imported; operators set MAZE_MAX_IMPORT_MIB."
        raise Problem("payload_too_large", message)
    services.uploads.sweep()
    new = NewUpload(
        id=upload_id,
        digest=digest,
        request=body.given(),
        size_bytes=body.size_bytes,
        sha256=body.sha256,
        part_bytes=min(settings.max_body_bytes, MAX_PART_BYTES),
        created_by=caller,
    )
    return services.uploads.begin(new, max_open=MAX_OPEN, max_open_of_one=MAX_OPEN_OF_ONE)


def _sent_at_once(
    services: Services, body: ImportRequest, data: bytes, upload_id: str, caller: str | None
) -> Chosen:
    upload, _ = _begun(services, body, upload_id, upload_id, caller)  # shared with no other request
    for number in range(upload.n_parts):
        start = number * upload.part_bytes
        upload = services.uploads.put_part(upload.id, number, data[start : start + upload.part_bytes])
    return _whole(services, upload)


def _store_part(services: Services, upload_id: str, number: int, data: bytes) -> Upload:
    upload = services.uploads.get(upload_id)
    if number >= upload.n_parts:
        raise _part_problem(
            f"The upload has {upload.n_parts} parts, 0 to {upload.n_parts - 1}; there is no {number}."
        )
    if len(data) != (wanted := upload.length_of(number)):
        raise _part_problem(f"Part {number} has {wanted} bytes, and {len(data)} came.")
    return services.uploads.put_part(upload_id, number, data)


def _part_problem(message: str) -> Problem:
    return Problem("invalid_request", message)


def _require_digest(data: bytes, sha256: str) -> None:
    if (found := hashlib.sha256(data).hexdigest()) != sha256:
        message = f"The {len(data)} bytes that came have the SHA-256 {found}, not {sha256}; send them again."
        raise Problem("digest_mismatch", message)


def _whole(services: Services, upload: Upload) -> Chosen:
    """Nothing is chosen: the run finds out. But all of it has to be there.

    Raises:
        Problem: parts are missing, or what came is not what was announced.
    """
    if missing := upload.missing:
        shown = ", ".join(map(str, missing[:20])) + (", …" if len(missing) > 20 else "")
        message = f"{len(missing)} of {upload.n_parts} parts are missing: {shown}."
        raise Problem("state_conflict", message, details={"missing": missing[:1000]})
    if (found := services.uploads.sha256(upload.id)) != upload.sha256:
        message = (
            f"The file that came has the SHA-256 {found}, and {upload.sha256} was announced; send it anew."
        )
        raise Problem("digest_mismatch", message)
    return Chosen(run_id=upload.run_id)
