"""What every measurement is told: the program, where to work, how thoroughly to measure; and how a preset looks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Preset:
    """The published preparation of one kind of data, as both sides are told it."""

    name: str
    spacing: tuple[float, float, float]
    low: float
    high: float


PRESETS = {
    "abdomen": Preset("abdomen", (1.5, 1.5, 1.5), -175.0, 250.0),
    "chest": Preset("chest", (1.25, 1.25, 5.0), -1000.0, 500.0),
}

ROI = 64  # R: crops are R^3, windows 3R x 3R x R
WINDOW = (3 * ROI, 3 * ROI, ROI)


@dataclass(frozen=True)
class Settings:
    voco: Path  # the program
    bench_sampling: Path  # bench/bench_sampling.c, built
    work: Path  # volumes and caches are made here and kept between runs
    ct: Path  # a folder of real CT volumes; may be missing
    quick: bool
    threads: tuple[int, ...]

    def real_volumes(self) -> list[Path]:
        return sorted(self.ct.glob("*.nii.gz")) if self.ct.is_dir() else []
