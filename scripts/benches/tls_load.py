"""The driver smtp_load of ../shared/bench, with one TLS context for all connections of a process: to make one, with all
the authorities of the system, takes a client longer than all that the servers do."""

from __future__ import annotations

import functools
import sys

import harness

sys.path.insert(0, str(harness.SHARED / "bench"))

import smtp_load

smtp_load.client_tls = functools.cache(smtp_load.client_tls)

if __name__ == "__main__":
    smtp_load.main()
