"""Logs: one line for each thing that happened, as text for people or JSON for programs."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, MutableMapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TextIO

from mailguard.observe.settings import LogSettings

sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
import structlog  # noqa: E402

# structlog's console for developers would load rich and pygments: 3 MB of every worker, for nothing.
if sys.modules.get("rich") is None:
    del sys.modules["rich"]

_about: ContextVar[str] = ContextVar("about", default="")
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "exception": 40, "critical": 50}


class Sink:
    """Where lines go. Opened before the fork, appended to by all workers: one write for a line."""

    def __init__(self, path: Path | None) -> None:
        """Raises OSError."""
        self._path = path
        self._file: TextIO = sys.stderr if path is None else path.open("a", encoding="utf-8", buffering=1)
        self._lock = threading.Lock()

    def write(self, text: str) -> None:
        """Adds one line; never raises, as there is nobody to tell."""
        try:
            with self._lock:
                self._file.write(text + "\n")
                self._file.flush()
        except (OSError, ValueError):
            pass

    def after_fork(self) -> None:
        """Forgets a lock that may have been held by another thread of the parent."""
        self._lock = threading.Lock()


def about(id: str) -> None:
    """From here on every line that this thread writes and that names no id carries this one; ``""``: none."""
    _about.set(id)


def make_log(settings: LogSettings, sink: Sink, *, now: Callable[[], float] = time.time) -> Any:
    """A structlog logger that writes to ``sink``; ``log.info("what happened", name=value)``."""
    render = _json if settings.form == "json" else _text

    def process(_logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
        return render(method, now(), dict(event))

    # Bound at once: a logger that is still to be set up looks its settings up at every line.
    return structlog.wrap_logger(
        _SinkLogger(sink),
        processors=[_exception, _identified, process],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[settings.level]),
    ).bind()


def silent_log() -> Any:
    """A logger that nobody hears."""
    return structlog.wrap_logger(None, processors=[_drop])


def _drop(*_: Any) -> Any:
    raise structlog.DropEvent


class _SinkLogger:
    def __init__(self, sink: Sink) -> None:
        self._write = sink.write

    def msg(self, text: str) -> None:
        self._write(text)

    debug = info = warning = error = exception = critical = msg


def _exception(_logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    error = event.pop("exc_info", None)
    if error is True or (method == "exception" and error is None):
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        import traceback

        event["traceback"] = "".join(traceback.format_exception(error)).rstrip()
    return event


def _identified(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if "id" not in event and (id := _about.get()):
        event["id"] = id
    return event


def _text(level: str, at: float, event: dict[str, Any]) -> str:
    what = str(event.pop("event", ""))
    trace = event.pop("traceback", "")
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
    pairs = "".join(f" {name}={_quoted(value)}" for name, value in event.items() if value not in (None, ""))
    return f"{stamp} {level:7} {_one_line(what)}{pairs}" + ("\n" + trace if trace else "")


def _quoted(value: object) -> str:
    text = _one_line(str(value))
    return json.dumps(text, ensure_ascii=False) if " " in text or '"' in text or "=" in text else text


def _one_line(text: str) -> str:
    # What a client sent must not look like a line of ours.
    return text if text.isprintable() else "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _json(level: str, at: float, event: dict[str, Any]) -> str:
    return json.dumps({"at": round(at, 3), "level": level, **event}, default=str, ensure_ascii=False)
