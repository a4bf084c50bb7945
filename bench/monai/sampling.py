"""Augmented crops per second, with equal numbers of threads."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from pathlib import Path

import monai.data
import torch
from monai_pipeline import CROPS_PER_VOLUME, training_set
from preparing import PRESET
from report import Check, Section
from settings import PRESETS, ROI, Settings
from voco_cache import make_cache
from volumes import ct_volumes

NEED = 10.0
BATCH = 4  # volumes, as published for one GPU


def monai_rate(paths: list[Path], cache: Path, workers: int, seconds: float) -> float:
    """Crops per second of the published loader; the workers' start and first batches are not counted. 0 workers: the main
    process does all."""
    torch.set_num_threads(1)
    repeat = 1000  # so that no epoch ends, which would cost the loader more
    data = training_set(paths, PRESETS[PRESET], cache, repeat)
    for index in range(len(paths)):
        data[index]  # fills what is missing
    loader = monai.data.DataLoader(data, batch_size=BATCH, num_workers=workers, shuffle=True, drop_last=True)
    batches = iter(loader)
    for _ in range(2 * workers + 1):
        next(batches)
    crops, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        next(batches)
        crops += BATCH * CROPS_PER_VOLUME
    rate = crops / (time.perf_counter() - start)
    del batches
    return rate


def voco_rate(settings: Settings, cache: Path, threads: int, seconds: float, chunk_cache: int) -> float:
    command = [settings.bench_sampling, cache, "--threads", threads, "--seconds", seconds, "--roi", ROI]
    command += ["--chunk-cache", chunk_cache]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"bench_sampling failed: {done.stderr.strip()[-2000:]}")
    return float(json.loads(done.stdout.strip().splitlines()[-1])["crops_per_second"])


def measure(settings: Settings) -> Section:
    count, rounds, seconds = (2, 1, 3.0) if settings.quick else (4, 3, 15.0)
    paths = ct_volumes(settings.work / "ct", count)
    listed = settings.work / "sampling.txt"
    listed.write_text("\n".join(str(path.resolve()) for path in paths) + "\n")
    cache = settings.work / "sampling-voco"
    make_cache(settings, listed, cache, preset=PRESET, bits=8, jobs=max(settings.threads))
    section = Section(
        "Sampling",
        f"Random window of 192 x 192 x 64, 2 random and 9 base crops of 64^3, each flipped, turned and shifted at random, from"
        f" {count} volumes: MONAI's PersistentDataset and DataLoader (N workers of one thread each, for N = 1 also none,"
        f" whichever is faster; batches of {BATCH} volumes) beside voco's loader with N threads, at 8 bits."
        f" All files lie in the page cache. Runs alternate; median of {rounds}.",
        ["threads", "MONAI crops/s", "voco crops/s, no chunk cache", "ratio", "voco crops/s, chunk cache of 1 GiB", "ratio"],
    )
    for threads in settings.threads:
        rates: dict[str, list[float]] = {"monai": [], "off": [], "on": []}
        for _ in range(rounds):
            rates["off"].append(voco_rate(settings, cache, threads, seconds, 0))
            workers = (0, 1) if threads == 1 else (threads,)
            monai_cache = settings.work / "sampling-monai"
            rates["monai"].append(max(monai_rate(paths, monai_cache, n, seconds) for n in workers))
            rates["on"].append(voco_rate(settings, cache, threads, seconds, 1 << 30))
        monai_, off, on = (statistics.median(rates[key]) for key in ("monai", "off", "on"))
        row = [f"{monai_:.0f}", f"{off:.0f}", f"{off / monai_:.1f}", f"{on:.0f}", f"{on / monai_:.1f}"]
        section.rows.append([str(threads), *row])
        for name, rate in (("no chunk cache", off), ("chunk cache", on)):
            what = f"sampling, {threads} thread(s), {name}: voco / MONAI"
            section.checks.append(Check(what, f"{rate / monai_:.1f}", f"{NEED:.0f}", rate / monai_ >= NEED))
    return section
