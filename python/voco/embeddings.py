"""What `voco encode` writes (docs/formats.md)."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Embeddings:
    embeddings: np.ndarray  # (n, E) float32: a row per crop, or per volume (--mean)
    volumes: list[str] | None = None  # of each row; None where the file does not say (.npy)
    positions: np.ndarray | None = None  # (n, 3) int32: the first voxel of each row's crop in the prepared volume
    positions_mm: np.ndarray | None = None  # (n, 3) float32: the centre of each row's crop, RAS
    means: np.ndarray | None = None  # (volumes, E) float32: of each volume over its crops (.safetensors)

    def __len__(self) -> int:
        return len(self.embeddings)


def _from_safetensors(path: Path) -> Embeddings:
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        about, keys = dict(file.metadata() or {}), set(file.keys())
        if "embedding" not in keys:
            raise ValueError(f"{path}: no embeddings in it: it has no tensor 'embedding'")

        def tensor(key: str) -> np.ndarray | None:
            return file.get_tensor(key) if key in keys else None

        rows, numbers = tensor("embedding"), tensor("volume")
        volumes = json.loads(about["volumes"]) if "volumes" in about else None
        if volumes is not None and numbers is not None:
            volumes = [volumes[int(k)] for k in numbers]
        if volumes is not None and len(volumes) != len(rows):
            raise ValueError(f"{path}: {len(rows)} rows, but volumes for {len(volumes)}")
        return Embeddings(rows, volumes, tensor("position"), tensor("position_mm"), tensor("mean"))


def _from_csv(path: Path) -> Embeddings:
    with open(path, newline="") as file:
        rows = list(csv.reader(file))
    if not rows or "volume" not in rows[0]:
        raise ValueError(f"{path}: no table of embeddings: its first row does not name 'volume'")
    head, rows = rows[0], rows[1:]
    features = [k for k, name in enumerate(head) if name[:1] == "e" and name[1:].isdigit()]

    def columns(names: tuple[str, ...], kind: type) -> np.ndarray | None:
        if not set(names) <= set(head):
            return None
        places = [head.index(name) for name in names]
        return np.array([[row[k] for k in places] for row in rows], kind).reshape(len(rows), len(names))

    return Embeddings(
        np.array([[row[k] for k in features] for row in rows], np.float32).reshape(len(rows), len(features)),
        [row[head.index("volume")] for row in rows],
        columns(("x", "y", "z"), np.int32),
        columns(("x_mm", "y_mm", "z_mm"), np.float32),
    )


def read_embeddings(path: str | Path) -> Embeddings:
    """A .safetensors, .npy or .csv file that `voco encode` wrote."""
    path = Path(path)
    if path.suffix == ".npy":
        return Embeddings(np.load(path))
    return _from_csv(path) if path.suffix == ".csv" else _from_safetensors(path)
