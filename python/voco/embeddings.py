"""What `voco encode` writes (docs/formats.md)."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Embeddings:
    embeddings: np.ndarray  # (n, E) float32
    volumes: list[str] | None = None  # of each row; None where the file does not say (.npy)
    positions: np.ndarray | None = None  # (n, 3): of each row's crop, voxels of the prepared volume

    def __len__(self) -> int:
        return len(self.embeddings)


def _from_safetensors(path: Path) -> Embeddings:
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        about, keys = dict(file.metadata() or {}), set(file.keys())
        if "embedding" not in keys:
            raise ValueError(f"{path}: no embeddings in it: it has no tensor 'embedding'")
        names = json.loads(about["volumes"]) if "volumes" in about else None
        volumes = [names[int(k)] for k in file.get_tensor("volume")] if names and "volume" in keys else None
        return Embeddings(file.get_tensor("embedding"), volumes, file.get_tensor("position") if "position" in keys else None)


def _from_csv(path: Path) -> Embeddings:
    with open(path, newline="") as file:
        rows = list(csv.reader(file))
    if not rows or "volume" not in rows[0]:
        raise ValueError(f"{path}: no table of embeddings: its first row does not name 'volume'")
    head, rows = rows[0], rows[1:]
    features = [k for k, name in enumerate(head) if name[:1] == "e" and name[1:].isdigit()]
    places = [head.index(axis) for axis in "xyz"] if set("xyz") <= set(head) else []
    return Embeddings(
        np.array([[row[k] for k in features] for row in rows], np.float32),
        [row[head.index("volume")] for row in rows],
        np.array([[row[k] for k in places] for row in rows], float) if places else None,
    )


def read_embeddings(path: str | Path) -> Embeddings:
    """A .safetensors, .npy or .csv file that `voco encode` wrote."""
    path = Path(path)
    if path.suffix == ".npy":
        return Embeddings(np.load(path))
    return _from_csv(path) if path.suffix == ".csv" else _from_safetensors(path)
