"""Synthetic volumes as NIfTI files whose header fields are all our own choice."""

from __future__ import annotations

import gzip
import multiprocessing
from dataclasses import dataclass, field
from pathlib import Path

import nibabel
import numpy as np
import torch

CT_SIZE = (512, 512, 300)
CT_SPACING = (0.8, 0.8, 1.0)


@dataclass(frozen=True)
class Geometry:
    """How a file states where its voxels lie."""

    affine: np.ndarray  # 4 x 4, voxel index -> mm in RAS
    form: str = "sform"  # or "qform": the only one with a code above 0


@dataclass(frozen=True)
class Storage:
    """How a file states its values: value = slope * stored + inter; slope 0 is NIfTI's "no scaling"."""

    dtype: str = "int16"
    slope: float = 0.0
    inter: float = 0.0
    level: int = field(default=6, compare=False)  # of gzip


def write_nifti(path: Path, values: np.ndarray, geometry: Geometry, storage: Storage) -> None:
    """nibabel's writer chooses scl_slope itself, so the file is put together here from nibabel's header."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(storage.dtype)
    header.set_data_shape(values.shape)
    header.set_zooms(np.linalg.norm(geometry.affine[:3, :3], axis=0))
    header.set_xyzt_units("mm")
    header.set_sform(geometry.affine, code=1 if geometry.form == "sform" else 0)
    header.set_qform(geometry.affine, code=1 if geometry.form == "qform" else 0)
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    if storage.slope != 0:
        header["scl_slope"], header["scl_inter"] = storage.slope, storage.inter
        values = (values - storage.inter) / storage.slope
    dtype = np.dtype(storage.dtype)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    part = path.with_name(path.name + ".part")
    with gzip.open(part, "wb", compresslevel=storage.level) as file:
        file.write(header.binaryblock + bytes(4) + values.astype(dtype).tobytes(order="F"))
    part.rename(path)


def smooth_field(size: tuple[int, int, int], seed: int) -> np.ndarray:
    """HU of a body in air: a smooth random field, ellipsoids and blocks with sharp borders, noise. Interpolation that is a
    little off shows at the borders."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn((1, 1, 7, 6, 5), generator=generator)
    hu = 150 * torch.nn.functional.interpolate(coarse, size=size, mode="trilinear", align_corners=True)[0, 0]
    axes = [torch.linspace(-1, 1, n) for n in size]
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    for value in (-800.0, -120.0, 300.0, 900.0):
        centre = torch.rand(3, generator=generator) - 0.5
        radius = 0.15 + 0.25 * torch.rand(3, generator=generator)
        inside = ((x - centre[0]) / radius[0]) ** 2 + ((y - centre[1]) / radius[1]) ** 2 + ((z - centre[2]) / radius[2]) ** 2
        hu[inside < 1] = value
    hu += 12 * torch.randn(size, generator=generator)
    body = (x / 0.83) ** 2 + (y / 0.71) ** 2 + (z / 0.9) ** 4 < 1
    hu[~body] = -1024
    return hu.numpy()


def ct_like(seed: int) -> np.ndarray:
    """HU of a trunk, 512 x 512 x 300: body, fat, lungs, spine, organs that vary with the seed, Gaussian noise of 12 to 20 HU
    in the body, air with noise around it."""
    generator = torch.Generator().manual_seed(seed)

    def around(value: float, spread: float) -> float:
        return value + spread * (2 * float(torch.rand(1, generator=generator)) - 1)

    x = torch.linspace(-205, 205, CT_SIZE[0])[:, None]
    y = torch.linspace(-205, 205, CT_SIZE[1])[None, :]
    width, depth, noise = around(170, 15), around(120, 12), around(16, 4)
    # Each organ: centre and radii in mm, HU; later ones lie over earlier ones.
    organs = [
        (-75, 0, 90, 62, 85, 110, -820), (75, 0, 90, 58, 85, 110, -830),  # lungs
        (15, 35, 60, 55, 45, 50, 45), (60, 10, -40, 85, 75, 70, 60), (-85, -35, -50, 40, 35, 50, 55),  # heart, liver, spleen
        (-50, 40, -60, 40, 35, 45, 20), (65, -55, -90, 28, 25, 50, 110), (-65, -55, -85, 28, 25, 50, 110),  # stomach, kidneys
        (0, -75, 0, 22, 24, 400, 250), (-8, -40, 0, 12, 12, 400, 150),  # spine, aorta
    ]  # fmt: skip
    organs = [(around(cx, 8), around(cy, 8), around(cz, 15), rx * around(1, 0.1), ry * around(1, 0.1), rz * around(1, 0.1), hu)
              for cx, cy, cz, rx, ry, rz, hu in organs]  # fmt: skip
    out = np.empty(CT_SIZE, dtype=np.int16)
    for k, z in enumerate(np.linspace(-150, 150, CT_SIZE[2])):
        shell = (x / width) ** 2 + (y / depth) ** 2
        hu = torch.where(shell < 1, torch.where(shell < 0.8, 50.0, -100.0), -1000.0)
        for cx, cy, cz, rx, ry, rz, value in organs:
            hu[((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 + ((z - cz) / rz) ** 2 < 1] = value
        sigma = torch.where(shell < 1, noise, 8.0)
        hu += sigma * torch.randn(hu.shape, generator=generator)
        out[:, :, k] = hu.clamp(-1024, 3071).round().numpy()
    return out


def _write_ct(job: tuple[Path, int, int]) -> None:
    path, seed, level = job
    affine = np.diag([-CT_SPACING[0], -CT_SPACING[1], CT_SPACING[2], 1.0])  # LPS, as scanners have it
    affine[:3, 3] = (204.4, 180.2, -310.0)
    write_nifti(path, ct_like(seed), Geometry(affine), Storage(level=level))


def ct_volumes(folder: Path, count: int) -> list[Path]:
    """`count` CT-like volumes of 512 x 512 x 300, which differ in anatomy and noise; made once."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"ct_{i:02}.nii.gz" for i in range(count)]
    jobs = [(path, i, 6) for i, path in enumerate(paths) if not path.exists()]
    if jobs:
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            pool.map(_write_ct, jobs, chunksize=1)
    return paths
