"""Volumes prepared per second, with equal numbers of threads."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import statistics
import time
from pathlib import Path

import numpy as np
from report import Check, Section
from settings import PRESETS, Settings
from voco_cache import Run, cached_volumes, make_cache
from volumes import ct_volumes

NEED = 8.0
PRESET = "abdomen"

_filler = None


def _start_worker(paths: list[Path], cache: Path) -> None:
    global _filler
    from monai_pipeline import CacheFiller

    _filler = CacheFiller(paths, PRESETS[PRESET], cache)


def _wait(_: int) -> None:
    time.sleep(0.5)  # so that every worker takes one, and has started before the clock does


def _fill(index: int) -> float:
    before = time.process_time()
    _filler.fill(index)
    return time.process_time() - before


def monai_run(paths: list[Path], cache: Path, processes: int) -> Run:
    """Fills a PersistentDataset by that many processes of one thread each; their start is not counted."""
    shutil.rmtree(cache, ignore_errors=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    with multiprocessing.get_context("spawn").Pool(processes, _start_worker, (paths, cache)) as pool:
        pool.map(_wait, range(processes), chunksize=1)
        start = time.perf_counter()
        cpu = sum(pool.map(_fill, range(len(paths)), chunksize=1))
        wall = time.perf_counter() - start
    del os.environ["OMP_NUM_THREADS"]
    return Run(wall, cpu)


def measure(settings: Settings) -> Section:
    count, rounds = (2, 1) if settings.quick else (4, 3)
    paths = ct_volumes(settings.work / "ct", count)
    listed = settings.work / "preparing.txt"
    listed.write_text("\n".join(str(path.resolve()) for path in paths) + "\n")
    for path in paths:
        path.read_bytes()  # into the page cache, for both sides
    section = Section(
        "Preparing",
        f"{count} volumes of 512 x 512 x 300 int16, 0.8 x 0.8 x 1.0 mm, .nii.gz, preset {PRESET}: `voco cache --bits 8 --jobs N`"
        " beside MONAI's PersistentDataset filled by N processes of one thread each, whose start is not counted. Runs alternate;"
        f" median of {rounds}. CPU seconds count all threads and hardly feel what else the machine does.",
        ["threads", "MONAI volumes/s", "voco volumes/s", "ratio", "MONAI CPU s/volume", "voco CPU s/volume", "ratio of CPU"],
    )
    for threads in settings.threads:
        monai: list[Run] = []
        voco: list[Run] = []
        for _ in range(rounds):
            cache = settings.work / "preparing-voco"
            voco.append(make_cache(settings, listed, cache, preset=PRESET, bits=8, jobs=threads))
            if len(cached_volumes(cache)) != count:
                raise RuntimeError(f"voco cache made {len(cached_volumes(cache))} of {count} volumes")
            monai.append(monai_run(paths, settings.work / "preparing-monai", threads))
        wall = [statistics.median(run.wall for run in runs) / count for runs in (monai, voco)]
        cpu = [statistics.median(run.cpu for run in runs) / count for runs in (monai, voco)]
        ratio = wall[0] / wall[1]
        row = [f"{1 / wall[0]:.3f}", f"{1 / wall[1]:.3f}", f"{ratio:.1f}"]
        row += [f"{cpu[0]:.2f}", f"{cpu[1]:.2f}", f"{np.divide(*cpu):.1f}"]
        section.rows.append([str(threads), *row])
        section.checks.append(Check(f"preparing, {threads} thread(s): voco / MONAI", f"{ratio:.1f}", f"{NEED:.0f}", ratio >= NEED))
    return section
