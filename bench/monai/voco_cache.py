"""Running `voco cache` and reading what it wrote, by zarr-python."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr
from settings import Settings


@dataclass(frozen=True)
class Run:
    wall: float  # seconds
    cpu: float  # seconds of all threads


def make_cache(settings: Settings, data: Path, out: Path, *, preset: str, bits: int, jobs: int) -> Run:
    """Caches DATA anew for random windows (--take crop)."""
    shutil.rmtree(out, ignore_errors=True)
    command = [settings.voco, "cache", data, "--out", out, "--preset", preset, "--take", "crop"]
    command += ["--bits", str(bits), "--jobs", str(jobs)]
    before, start = os.times(), time.perf_counter()
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    wall, after = time.perf_counter() - start, os.times()
    if done.returncode != 0:
        raise RuntimeError(f"voco cache failed: {done.stderr.strip()[-2000:]}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Run(wall, cpu)


@dataclass(frozen=True)
class CachedVolume:
    path: Path
    source: Path

    def voxels(self) -> np.ndarray:
        """(x, y, z), in [0, 1]."""
        array = zarr.open_group(self.path, mode="r")["0"]
        stored = np.asarray(array[:]).transpose(2, 1, 0)
        return stored * np.float64(array.attrs["scale"]) + array.attrs["offset"]

    def affine(self) -> np.ndarray:
        return np.asarray(zarr.open_group(self.path, mode="r").attrs["voco"]["affine"])

    def bytes(self) -> int:
        return sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file())


def cached_volumes(folder: Path) -> dict[Path, CachedVolume]:
    """The volumes of a cache by the file each was made from."""
    volumes = {}
    for path in sorted(folder.glob("*.ome.zarr")):
        source = Path(zarr.open_group(path, mode="r").attrs["voco"]["source"])
        volumes[source] = CachedVolume(path, source)
    return volumes
