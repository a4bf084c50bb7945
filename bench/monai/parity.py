"""Does `voco cache` hold the voxels that MONAI makes? Real volumes and synthetic ones of every orientation."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from monai_pipeline import prepare
from report import Check, Section
from settings import PRESETS, Preset, Settings
from voco_cache import CachedVolume, cached_volumes, make_cache
from volumes import Geometry, Storage, smooth_field, write_nifti

BOUND = 2e-3
SIZE = (58, 49, 41)
SPACING = (1.9, 2.3, 3.1)


@dataclass(frozen=True)
class Case:
    name: str
    geometry: Geometry
    storage: Storage = Storage("float32", level=1)


def rotation(degrees: tuple[float, float, float]) -> np.ndarray:
    a, b, c = np.radians(degrees)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def affine_of(axes: tuple[int, ...], signs: tuple[int, ...], turn: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """File axis k runs along sign k of world axis axes[k], the whole turned."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for k, (axis, sign) in enumerate(zip(axes, signs)):
        affine[axis, k] = sign * spacing[k]
    affine[:3, :3] = turn @ affine[:3, :3]
    affine[:3, 3] = (-61.3, 42.7, -118.9)
    return affine.astype(np.float32).astype(np.float64)  # as a header holds it


def _code(axes: tuple[int, ...], signs: tuple[int, ...]) -> str:
    return "".join(("RAS" if sign > 0 else "LPI")[axis] for axis, sign in zip(axes, signs))


def _orientations() -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    yield from itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3))


def cases(quick: bool) -> Iterator[Case]:
    every = list(_orientations())
    straight = np.eye(3)
    for axes, signs in every[:: 9 if quick else 1]:
        yield Case(f"orientation {_code(axes, signs)}", Geometry(affine_of(axes, signs, straight, SPACING)))
    turns = ((3.0, -2.0, 5.0), (12.0, 0.0, 0.0), (-8.0, 21.0, 14.0), (30.0, -15.0, -25.0), (0.004, 0.002, -0.003))
    for i, turn in enumerate(turns[:2] if quick else turns):
        for form in ("sform", "qform"):
            axes, signs = every[(11 * i + 6) % len(every)]
            geometry = Geometry(affine_of(axes, signs, rotation(turn), SPACING), form)
            yield Case(f"{form} {_code(axes, signs)} turned by {turn}", geometry)
    lps = ((0, 1, 2), (-1, -1, 1))
    spacings = ((1.5, 1.5, 1.5), (1.4995, 1.5004, 1.4998), (0.7421875, 0.7421875, 1.25), (0.683594, 0.683594, 5.0))
    spacings += ((2.9999, 3.0001, 3.0), (1.25, 1.25, 5.0), (4.7, 1.1, 0.9))
    for spacing in spacings[1:3] if quick else spacings:
        yield Case(f"spacing {spacing}", Geometry(affine_of(*lps, straight, spacing)))
    storages = (
        Storage("int16", level=1), Storage("uint8", 9.5, -1100.0, 1), Storage("uint16", 1.0, -1024.0, 1),
        Storage("int16", 0.5, 3.25, 1), Storage("int32", level=1), Storage("float64", level=1), Storage("int8", 16.0, 0.0, 1),
        Storage("uint32", 0.125, -2048.0, 1), Storage("float32", 2.0, -100.0, 1),
    )  # fmt: skip
    for storage in storages[1:3] if quick else storages:
        name = f"{storage.dtype}, slope {storage.slope}, inter {storage.inter}"
        yield Case(name, Geometry(affine_of(*lps, rotation((1.0, 2.0, 0.5)), SPACING)), storage)


def _write_cases(folder: Path, quick: bool) -> dict[Path, str]:
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    names = {}
    for number, case in enumerate(cases(quick)):
        path = folder / f"case_{number:03}.nii.gz"
        write_nifti(path, smooth_field(SIZE, seed=number), case.geometry, case.storage)
        names[path.resolve()] = case.name
    return names


@dataclass(frozen=True)
class Difference:
    largest: float  # infinite where there is nothing to compare
    affine: float  # mm
    note: str


def compare(source: Path, cached: CachedVolume | None, preset: Preset) -> Difference:
    wanted, affine = prepare(source, preset)
    if cached is None:
        return Difference(np.inf, np.inf, "voco skipped it")
    voxels = cached.voxels()
    shape = " x ".join(map(str, voxels.shape))
    if voxels.shape != wanted.shape:
        return Difference(np.inf, np.inf, f"shape {shape}, MONAI {' x '.join(map(str, wanted.shape))}")
    return Difference(float(np.abs(voxels - wanted).max()), float(np.abs(cached.affine() - affine).max()), shape)


def measure(settings: Settings) -> Section:
    section = Section(
        "Same voxels as MONAI",
        "`voco cache --bits 16 --take crop`, read by zarr-python, beside MONAI's LoadImage, EnsureChannelFirst, Orientation"
        " RAS, Spacing, ScaleIntensityRange, CropForeground, SpatialPad (64^3, then 192 x 192 x 64). Real volumes one by one; of"
        " the synthetic ones (every orientation, oblique, sform and qform, spacings, types with and without scaling) those that"
        " differ most.",
        ["volume", "preset", "shape", "largest difference", "affine, mm"],
    )
    synthetic = settings.work / "parity"
    names = _write_cases(synthetic, settings.quick)
    real = settings.real_volumes()
    listed = settings.work / "parity.txt"
    listed.write_text("\n".join(str(path.resolve()) for path in [*real, *names]) + "\n")
    worst, same_shape, count = 0.0, True, 0
    for preset in list(PRESETS.values())[: 1 if settings.quick else None]:
        cache = settings.work / f"parity-{preset.name}"
        make_cache(settings, listed, cache, preset=preset.name, bits=16, jobs=max(settings.threads))
        cached = cached_volumes(cache)
        rows = []
        for source in [*(path.resolve() for path in real), *names]:
            found = compare(source, cached.get(source), preset)
            count += 1
            worst, same_shape = max(worst, found.largest), same_shape and np.isfinite(found.largest)
            row = [names.get(source, source.name), preset.name, found.note, f"{found.largest:.1e}", f"{found.affine:.0e}"]
            rows.append((source in names, found.largest, row))
        section.rows += [row for is_synthetic, _, row in rows if not is_synthetic]
        furthest = sorted((row for row in rows if row[0]), key=lambda row: -row[1])
        section.rows += [row for _, largest, row in furthest if not largest <= BOUND] or [row[2] for row in furthest[:5]]
    section.checks = [
        Check(f"shapes equal MONAI's, {count} preparations", "all" if same_shape else "not all", "all", same_shape),
        Check("largest difference from MONAI", f"{worst:.1e}", f"{BOUND:.0e}", worst <= BOUND),
    ]
    return section
