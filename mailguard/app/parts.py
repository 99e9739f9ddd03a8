"""Everything of one worker, built from one configuration: what a reload replaces, and what it keeps."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mailguard.app.bus import Bus
from mailguard.app.health import Health
from mailguard.app.plan import Plan
from mailguard.auth.authenticator import Authenticator
from mailguard.auth.signin import SignIns
from mailguard.delivery.queue import Queue
from mailguard.net.listener import Handler
from mailguard.net.parking import Parking
from mailguard.net.resolver import DnsResolver
from mailguard.observe.metrics import Metrics
from mailguard.pipeline.engine import Engine
from mailguard.pipeline.record import Recorder
from mailguard.state.database import Database

if TYPE_CHECKING:
    from mailguard.server.web import WebApplication


@dataclass(slots=True)
class Shared:
    """What outlives reloads: made once for a worker."""

    log: Any
    bus: Bus
    database: Database
    queue: Queue
    recorder: Recorder
    parking: Parking
    metrics: Metrics
    health: Health


@dataclass(slots=True)
class Parts:
    """What serves connections; replaced as a whole at a reload, while sessions under way keep the old one."""

    plan: Plan
    resolver: DnsResolver
    engine: Engine
    authenticator: Authenticator
    sign_ins: SignIns
    handlers: dict[str, Handler] = field(default_factory=dict)
    web: WebApplication | None = None
    jobs: list[Callable[[threading.Event], None]] = field(default_factory=list)
    retired: threading.Event = field(default_factory=threading.Event)  # set when other parts have taken over


def new_id() -> str:
    """An id for a message made here: sorts by time, never the same twice."""
    return f"{time.time_ns() // 1_000_000:x}-{secrets.token_hex(5)}"
