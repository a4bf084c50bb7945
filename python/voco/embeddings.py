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
