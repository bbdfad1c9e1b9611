"""Logging of a whole process: structlog events and the standard library's records, in one form, through one `LogSink`.

The process's logging is the standard library's root logger, global by its nature; nothing else here is kept.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Final, Literal, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from roost.service.log_sink import LogSink
from roost.service.startup import refuse_to_start

Logger = FilteringBoundLogger
LogFormat = Literal["console", "json"]
_CHATTY: Final = ("grpc", "asyncio", "httpx", "httpcore", "hpack")  # their debug lines are about themselves


def configure(service: str, *, verbose: bool, log_format: str, log_file: Path | None) -> None:
    """Sets up the process's logging; every line carries `service`. Exits 2, naming log_file, if the file cannot be opened."""
    try:
        sink = LogSink(log_file)
    except OSError as error:
        refuse_to_start(
            [f"log_file: {log_file} cannot be written: {error.strerror}; choose a file in a folder that this user may write to"]
        )
    shared = _shared_processors(service)
    handler = _SinkHandler(sink)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(log_format, is_file=log_file is not None)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(root.level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,  # a logger made before this call must follow it
    )


def get_logger() -> Logger:
    """A logger of events with keys: `log.info("worker_suspected", worker_id=w, silent_s=3.2)`."""
    return cast("Logger", structlog.get_logger("roost"))


def write_errors() -> int:
    """Lines that the log's place has not taken since the process started; 0 where logging was never configured."""
    return sum(handler.sink.write_errors for handler in logging.getLogger().handlers if isinstance(handler, _SinkHandler))


def flush(timeout_s: float = 1.0) -> None:
    """Waits until the lines so far have left the process, at most this long."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _SinkHandler):
            handler.sink.flush(timeout_s)


class _SinkHandler(logging.Handler):
    def __init__(self, sink: LogSink) -> None:
        super().__init__()
        self.sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001 - a value whose repr fails must not stop what was being logged
            line = f"{record.levelname} a log line could not be written: {type(error).__name__} in {record.pathname}:{record.lineno}"
        self.sink.write(line)


def _shared_processors(service: str) -> list[Processor]:
    def name_service(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        name_service,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _renderers(log_format: str, *, is_file: bool) -> list[Processor]:
    if log_format == "json":
        return [
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("event"),
            structlog.processors.JSONRenderer(default=repr),
        ]
    colors = not is_file and sys.stderr.isatty()
    # plain_traceback: the richer ones print local variables, and those may hold prompts
    return [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback, pad_event_to=0)]
