#!/usr/bin/env python3
"""Opens a cache of voco with zarr-python, a reader that shares nothing with voco, and checks what docs/formats.md says.

    python3 tools/check_zarr_cache.py CACHE [--expect SOURCE PREPARED]... [--flip]

--expect: the volume that was cached from SOURCE holds the voxels of PREPARED, float32 NIfTI as `voco prepare` writes it (same
preset and R), within half a level, and the same place in the world. --flip: in copies of every shard some bytes are changed,
and zarr must refuse each copy. Needs zarr (3) and numpy only. Exits with 1 and one line per fault."""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import struct
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr

CHUNK = 64
LEVELS = {255: "uint8", 4095: "uint16", 65535: "uint16"}
CODECS = ["transpose", "bytes", "zstd", "crc32c"]
INDEX_CODECS = ["bytes", "crc32c"]

faults: list[str] = []


def check(good: bool, what: str) -> bool:
    if not good:
        faults.append(what)
    return good


@dataclass(frozen=True)
class Prepared:
    voxels: np.ndarray  # (x, y, z)
    affine: np.ndarray  # 3 x 4


def read_prepared(path: Path) -> Prepared:
    """NIfTI-1 of float32 with a sform, little endian, gzipped or not."""
    data = path.read_bytes()
    data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    (dims, nx, ny, nz), (datatype,), (start,) = (
        struct.unpack_from(form, data, at) for form, at in (("<4h", 40), ("<h", 70), ("<f", 108))
    )
    if dims != 3 or datatype != 16:
        raise ValueError(f"{path}: not 3D float32")
    voxels = np.frombuffer(data, "<f4", nx * ny * nz, int(start)).reshape((nx, ny, nz), order="F")
    return Prepared(voxels, np.frombuffer(data, "<f4", 12, 280).reshape(3, 4).astype(float))


def pad_to(prepared: Prepared, size: tuple[int, ...]) -> Prepared:
    """Zeros at both sides, the odd one behind, as voco.md section 5 has it."""
    missing = [n - have for n, have in zip(size, prepared.voxels.shape)]
    before = [n // 2 for n in missing]
    voxels = np.pad(prepared.voxels, [(b, n - b) for b, n in zip(before, missing)])
    affine = prepared.affine.copy()
    affine[:, 3] -= affine[:, :3] @ before
    return Prepared(voxels, affine)


def resize(voxels: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Trilinear, first and last voxels keep their places."""
    out = voxels.astype(np.float64)
    for axis, n in enumerate(size):
        have = out.shape[axis]
        places = np.arange(n) * ((have - 1) / (n - 1))
        low = np.minimum(places.astype(int), max(have - 2, 0))
        share = (places - low).reshape([-1 if i == axis else 1 for i in range(3)])
        out = np.take(out, low, axis) * (1 - share) + np.take(out, np.minimum(low + 1, have - 1), axis) * share
    return out


def check_array(array: zarr.Array, levels: int, where: str) -> None:
    """Layout and attributes of one array, from zarr's own view of the metadata."""
    check(str(array.dtype) == LEVELS[levels], f"{where}: data type {array.dtype} for {levels} levels")
    check(array.chunks == (CHUNK,) * 3, f"{where}: chunks {array.chunks}")
    whole = tuple(-(-n // CHUNK) * CHUNK for n in array.shape)
    check(array.shards == whole, f"{where}: shard {array.shards} over {array.shape}, not {whole}")
    check(array.metadata.dimension_names == ("z", "y", "x"), f"{where}: dimensions {array.metadata.dimension_names}")
    sharding = array.metadata.to_dict()["codecs"][0]
    settings = sharding["configuration"]
    names = [codec["name"] for codec in settings["codecs"]], [codec["name"] for codec in settings["index_codecs"]]
    check(sharding["name"] == "sharding_indexed" and names == (CODECS, INDEX_CODECS), f"{where}: codecs {sharding}")
    check(list(settings["codecs"][0]["configuration"]["order"]) == [2, 1, 0], f"{where}: transpose is not z fastest")
    check(np.isclose(array.attrs["scale"] * levels, 1, rtol=1e-12), f"{where}: scale {array.attrs['scale']}")
    check(array.attrs["offset"] == 0, f"{where}: offset {array.attrs['offset']}")


def check_image(image: dict, path: str, spacing: list[float], origin: list[float], where: str) -> None:
    """One image of the OME-NGFF metadata; spacing and origin in the order x, y, z."""
    check([axis["name"] for axis in image["axes"]] == ["z", "y", "x"], f"{where}: axes {image['axes']}")
    check(all(axis["type"] == "space" and axis["unit"] == "millimeter" for axis in image["axes"]), f"{where}: axes {image['axes']}")
    dataset = image["datasets"][0]
    check(dataset["path"] == path, f"{where}: path {dataset['path']}")
    scale, translation = dataset["coordinateTransformations"]
    check(np.allclose(scale["scale"], spacing[::-1], rtol=1e-9), f"{where}: scale {scale}, spacing {spacing}")
    check(np.allclose(translation["translation"], origin[::-1], atol=1e-9), f"{where}: translation {translation}, origin {origin}")


def values(array: zarr.Array) -> np.ndarray:
    stored = np.asarray(array[:]).transpose(2, 1, 0)
    return stored * np.float64(array.attrs["scale"]) + array.attrs["offset"]


def check_voxels(found: np.ndarray, wanted: np.ndarray, levels: int, where: str) -> None:
    if check(found.shape == wanted.shape, f"{where}: size {found.shape}, expected {wanted.shape}"):
        furthest = np.abs(found - wanted).max()
        check(furthest <= 0.5 / levels + 1e-6, f"{where}: {furthest:.3g} away, half a level is {0.5 / levels:.3g}")
        check(wanted.max() > 0.5 and wanted.std() > 0.01, f"{where}: nothing to compare")


def check_volume(path: Path, expected: Prepared | None) -> None:
    where = path.name
    group = zarr.open_group(path, mode="r")
    own, ome = group.attrs["voco"], group.attrs["ome"]
    affine = np.asarray(own["affine"])
    check(ome["version"] == "0.5", f"{where}: OME-NGFF {ome['version']}")
    check(np.allclose(np.linalg.norm(affine[:, :3], axis=0), own["spacing"], rtol=1e-6), f"{where}: affine and spacing disagree")
    arrays = ["0", "window"] if own["window"][0] > 0 else ["0"]
    check(sorted(group.array_keys()) == arrays, f"{where}: arrays {sorted(group.array_keys())}, expected {arrays}")
    spacing = list(own["spacing"])
    for image, name in zip(ome["multiscales"], arrays, strict=True):
        check_array(group[name], own["levels"], f"{where}/{name}")
        check_image(image, name, spacing, list(affine[:, 3]), f"{where}/{name}")
        spacing = [s * (n - 1) / (w - 1) for s, n, w in zip(own["spacing"], own["size"], own["window"])]
    size = group["0"].shape[::-1]
    check(tuple(own["size"]) == size, f"{where}: size {own['size']}, array {size}")
    if expected is None:
        for name in arrays:
            values(group[name])
        return
    if any(n < have for n, have in zip(size, expected.voxels.shape)):
        check(False, f"{where}: size {size}, expected at least {expected.voxels.shape}")
        return
    padded = pad_to(expected, size)
    check_voxels(values(group["0"]), padded.voxels, own["levels"], f"{where}/0")
    check(np.allclose(affine, padded.affine, atol=1e-3), f"{where}: affine {affine.tolist()}, expected {padded.affine.tolist()}")
    if "window" in arrays:
        check_voxels(values(group["window"]), resize(padded.voxels, tuple(own["window"])), own["levels"], f"{where}/window")


def check_flips(path: Path) -> int:
    """Changes bytes in copies: of chunks at the beginning, in the middle, of the index at the end."""
    tried = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        shutil.copytree(path, copy)
        for shard in copy.glob("*/c/0/0/0"):
            good = shard.read_bytes()
            for at in (0, 3, len(good) // 3, len(good) // 2, len(good) - 30, len(good) - 1):
                bad = bytearray(good)
                bad[at] ^= 0x10
                shard.write_bytes(bad)
                tried += 1
                name = str(shard.relative_to(copy).parts[0])
                try:
                    zarr.open_group(copy, mode="r")[name][:]
                except Exception:  # which one is zarr's affair
                    continue
                check(False, f"{path.name}/{name}: zarr reads a shard whose byte {at} of {len(good)} was changed")
            shard.write_bytes(good)
    return tried


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--expect", nargs=2, type=Path, action="append", default=[], metavar=("SOURCE", "PREPARED"))
    parser.add_argument("--flip", action="store_true")
    arguments = parser.parse_args()
    expected = {source.resolve(): read_prepared(prepared) for source, prepared in arguments.expect}
    volumes = sorted(arguments.cache.glob("*.ome.zarr"))
    check(len(volumes) > 0, f"{arguments.cache}: no *.ome.zarr in it")
    met = set()
    flips = 0
    for path in volumes:
        source = Path(json.loads((path / "zarr.json").read_text())["attributes"]["voco"]["source"])
        met.add(source)
        check_volume(path, expected.get(source))
        flips += check_flips(path) if arguments.flip else 0
    for source in expected.keys() - met:
        check(False, f"{arguments.cache}: nothing was cached from {source}")
    for fault in faults:
        print(fault)
    print(f"{len(volumes)} volumes, {len(expected)} compared, {flips} changed bytes: {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
