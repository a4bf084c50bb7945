"""Wall and CPU time and memory of this process."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Duration:
    wall: float  # seconds
    cpu: float  # seconds of all threads, in the program and in the kernel for it


class Stopwatch:
    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> Duration:
        return Duration(time.perf_counter() - self._wall, time.process_time() - self._cpu)


def peak_memory() -> int:
    """Bytes that the process has had in memory at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def give_way_in_memory() -> None:
    """Where memory runs out, this process shall end and none that others need."""
    Path("/proc/self/oom_score_adj").write_text("1000")
