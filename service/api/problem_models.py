"""The shape of every error, for the OpenAPI document; ``service.problem_body`` writes it."""

from pydantic import BaseModel, ConfigDict


class ErrorOut(BaseModel):
    """One mistake."""

    pointer: str | None = None
    """JSON pointer into the body; "" is the body as a whole."""
    parameter: str | None = None
    """Name of the query parameter, where the mistake is in the query string."""
    path: str | None = None
    """Key path in the configuration, the same on every face."""
    code: str
    message: str
    allowed: list[str] | None = None
    did_you_mean: str | None = None


class ProblemOut(BaseModel):
    """RFC 9457 problem; kinds of problem may add members."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)

    type: str
    title: str
    status: int
    code: str
    """Stable name of the kind of problem."""
    detail: str
    """What happened and the way out."""
    instance: str
    request_id: str
    errors: list[ErrorOut]
