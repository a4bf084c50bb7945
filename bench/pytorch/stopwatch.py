"""Wall and CPU time and memory of this process, and how it begins."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from pathlib import Path

import torch


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


def prepare_process(threads: int, tuned: bool) -> None:
    """tuned: subnormal numbers are zero. Attention is full of them (the exponentials of -100 between regions of a shifted
    window), and Intel's processors take a hundred times as long for each. OpenMP's threads inherit the setting, so it has to be
    made before there are any."""
    torch.set_flush_denormal(tuned)
    torch.set_num_threads(threads)
    give_way_in_memory()


def give_way_in_memory() -> None:
    """Where memory runs out, this process shall end and none that others need."""
    Path("/proc/self/oom_score_adj").write_text("1000")
