"""Bytes of a cached volume beside those of MONAI's PersistentDataset, and what 8 bits cost in accuracy."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from monai_pipeline import CacheFiller, prepare
from parity import BOUND
from report import Check, Section
from settings import PRESETS, ROI, Settings
from voco_cache import cached_volumes, make_cache
from volumes import ct_volumes

NEED = {8: 8.0, 12: 5.0}


def _monai_bytes(paths: list[Path], preset: str, cache: Path) -> list[int]:
    shutil.rmtree(cache, ignore_errors=True)
    filler = CacheFiller(paths, PRESETS[preset], cache)
    sizes = []
    seen: set[Path] = set()
    for index in range(len(paths)):
        filler.fill(index)
        new = set(cache.glob("*.pt")) - seen
        seen |= new
        sizes.append(sum(file.stat().st_size for file in new))
    return sizes


def measure(settings: Settings) -> Section:
    preset = "abdomen"
    section = Section(
        "Size on disk",
        f"Preset {preset}. MONAI: the files of PersistentDataset, which hold what precedes the first random transform."
        " `torch.save` writes the whole storage behind a cropped view, so its files are larger than 4 bytes a voxel; the column"
        " float32 has those 4 bytes alone. voco: all files of the volume, padding to the window included.",
        ["volume", "MONAI MB", "float32 MB", "8 bits MB", "ratio", "to float32", "12 bits MB", "ratio", "to float32", "8 bits: error"],
    )  # fmt: skip
    paths = [path.resolve() for path in [*settings.real_volumes(), *ct_volumes(settings.work / "ct", 1)]]
    listed = settings.work / "size.txt"
    listed.write_text("\n".join(map(str, paths)) + "\n")
    monai = _monai_bytes(paths, preset, settings.work / "size-monai")
    cached = {}
    for bits in NEED:
        cache = settings.work / f"size-{bits}"
        make_cache(settings, listed, cache, preset=preset, bits=bits, jobs=max(settings.threads))
        cached[bits] = cached_volumes(cache)
    floats, totals, error = [], {bits: 0 for bits in NEED}, 0.0
    for path, size in zip(paths, monai):
        wanted, _ = prepare(path, PRESETS[preset])
        floats.append(4 * int(np.prod([max(extent, ROI) for extent in _unpadded(wanted)])))
        row = [path.name, f"{size / 1e6:.2f}", f"{floats[-1] / 1e6:.2f}"]
        for bits in NEED:
            own = cached[bits][path].bytes()
            totals[bits] += own
            row += [f"{own / 1e6:.2f}", f"{size / own:.1f}", f"{floats[-1] / own:.1f}"]
        worst = float(np.abs(cached[8][path].voxels() - wanted).max())
        error = max(error, worst)
        section.rows.append([*row, f"{worst:.5f}"])
    for bits, need in NEED.items():
        ratio = sum(monai) / totals[bits]
        plain = sum(floats) / totals[bits]
        section.checks.append(Check(f"size at {bits} bits, all volumes: MONAI / voco", f"{ratio:.1f}", f"{need:.0f}", ratio >= need))
        section.checks.append(Check(f"... float32 voxels / voco at {bits} bits", f"{plain:.1f}", f"{need:.0f}", plain >= need))
    limit = 1 / 510 + BOUND
    section.checks.append(Check("8 bits: largest error", f"{error:.5f}", f"1/510 + {BOUND:g} = {limit:.5f}", error <= limit))
    return section


def _unpadded(voxels: np.ndarray) -> list[int]:
    """Extent of the box that is not padding: the foreground's box touches a voxel above 0 at each of its sides."""
    extents = []
    for axis in range(3):
        others = tuple(i for i in range(3) if i != axis)
        filled = np.flatnonzero(voxels.any(axis=others))
        extents.append(int(filled[-1] - filled[0] + 1))
    return extents
