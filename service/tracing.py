"""Spans by OpenTelemetry: of a request, below it of each attempt at the run that it submitted, below that of epochs.

Off unless the extra ``otel`` is installed and the environment names where they go, by OpenTelemetry's own variables:
``OTEL_TRACES_EXPORTER=otlp`` or ``OTEL_EXPORTER_OTLP_ENDPOINT``; the others hold as well. A run's process exports
nothing and has no network to do it by: the worker tells of it what it reports.
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from service.logs import route_of

logger = logging.getLogger(__name__)

_NAMED = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def wanted(environment: Mapping[str, str]) -> bool:
    """Whether the environment wants spans to be exported."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = environment.get("OTEL_TRACES_EXPORTER", "")
    return exporter == "otlp" or (not exporter and any(environment.get(name) for name in _NAMED))


def tracer_of(service_name: str) -> Any:
    """A tracer that exports what the environment wants; None where it wants nothing, or cannot have it.

    Args:
        service_name: unless ``OTEL_SERVICE_NAME`` has another.
    """
    if not wanted(os.environ):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        logger.warning("OpenTelemetry is wanted and not installed: pip install 'maze-service[otel]'")
        return None
    name = os.environ.get("OTEL_SERVICE_NAME", service_name)
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider.get_tracer("maze")


class Traced:
    """Wraps an ASGI application: a span per request, below the one that the request names as its parent.

    What is wrapped finds its own span named instead: so runs and webhooks carry it on.
    """

    def __init__(self, app: Any, tracer: Any) -> None:
        """Wrap ``app``."""
        self._app, self._tracer = app, tracer

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer within a span."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        from opentelemetry.trace import SpanKind

        others = [
            (name, value) for name, value in scope["headers"] if name not in (b"traceparent", b"tracestate")
        ]
        given = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        facts = {"http.request.method": scope["method"], "url.path": scope["path"]}
        with self._tracer.start_as_current_span(
            scope["method"], context=_context(given), kind=SpanKind.SERVER, attributes=facts
        ) as span:
            inner = {**scope, "headers": others + _headers()}

            async def sent(message: Any) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if route := route_of(inner):
                        span.set_attribute("http.route", route)
                        span.update_name(f"{scope['method']} {route}")
                await send(message)

            await self._app(inner, receive, sent)


def _context(carrier: Mapping[str, str | None]) -> Any:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    given = {name: value for name, value in carrier.items() if value is not None}
    return TraceContextTextMapPropagator().extract(given)


def _headers() -> list[tuple[bytes, bytes]]:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return [(name.encode(), value.encode()) for name, value in carrier.items()]


class AttemptSpan:
    """The span of an attempt, and those of its epochs; nothing, without a tracer."""

    def __init__(self, tracer: Any, span: Any) -> None:
        """Take the attempt's span."""
        self._tracer, self._span = tracer, span
        self._epoch: int | None = None
        self._began_ns: int | None = None

    def epochs(self, epochs: Sequence[int]) -> None:
        """Note that these epochs have been reported, which ends them."""
        if self._span is None or not epochs or epochs[-1] == self._epoch:
            return
        from time import time_ns

        from opentelemetry.trace import set_span_in_context

        self._epoch, now_ns = epochs[-1], time_ns()
        self._tracer.start_span(
            f"epoch {self._epoch}",
            context=set_span_in_context(self._span),
            start_time=self._began_ns or self._span.start_time,
            attributes={"maze.epoch": self._epoch},
        ).end(now_ns)
        self._began_ns = now_ns

    def ended(self, state: str, reason: str | None) -> None:
        """Note how it ended."""
        if self._span is not None:
            from opentelemetry.trace import StatusCode

            self._span.set_attributes({"maze.state": state, "maze.reason": reason or ""})
            if state == "failed":
                self._span.set_status(StatusCode.ERROR, reason)


@contextmanager
def attempt_span(
    tracer: Any, name: str, carrier: Mapping[str, str | None], **facts: Any
) -> Iterator[AttemptSpan]:
    """The span of an attempt, below the request that ``carrier`` names."""
    if tracer is None:
        yield AttemptSpan(None, None)
        return
    attributes = {f"maze.{fact}": value for fact, value in facts.items()}
    with tracer.start_as_current_span(name, context=_context(carrier), attributes=attributes) as span:
        yield AttemptSpan(tracer, span)
