"""A cache of prepared volumes (docs/formats.md), read by zarr-python 3."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np


class CachedVolume:
    """One prepared volume: a lazy array (x, y, z) of float32 in [0, 1]. Indexing it reads and decodes the chunks that are touched."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    @cached_property
    def _group(self):
        import zarr

        return zarr.open_group(self.folder, mode="r")

    @cached_property
    def _attributes(self) -> dict:
        about = self._group.attrs.get("voco")
        if about is None:
            raise ValueError(f"{self.folder}: not a volume of a voco cache")
        return dict(about)

    @cached_property
    def _array(self):
        return self._group["0"]

    @property
    def shape(self) -> tuple[int, int, int]:
        return tuple(self._array.shape[::-1])

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.float32)

    ndim = 3

    @property
    def affine(self) -> np.ndarray:
        """(4, 4): voxel (x, y, z, 1) to mm, RAS."""
        return np.vstack([np.asarray(self._attributes["affine"], float), [0, 0, 0, 1]])

    @property
    def spacing(self) -> tuple[float, float, float]:
        return tuple(self._attributes["spacing"])

    @property
    def name(self) -> str:
        return self._attributes["name"]

    @property
    def source(self) -> Path:
        return Path(self._attributes["source"])

    @property
    def split(self) -> str:
        return self._attributes["split"]

    @property
    def preset(self) -> dict:
        return dict(self._attributes["preset"])

    def __getitem__(self, index) -> np.ndarray:
        index = index if isinstance(index, tuple) else (index,)
        if Ellipsis in index:
            at = index.index(Ellipsis)
            index = index[:at] + (slice(None),) * (4 - len(index)) + index[at + 1 :]
        if len(index) > 3:
            raise IndexError(f"{len(index)} indices for a volume of 3 axes")
        index += (slice(None),) * (3 - len(index))
        stored = np.asarray(self._array[index[::-1]])
        values = stored.T.astype(np.float32)
        return values * np.float32(self._array.attrs["scale"]) + np.float32(self._array.attrs["offset"])

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self[...], dtype)

    def __repr__(self) -> str:
        return f"<CachedVolume {self.folder.name}, {' x '.join(map(str, self.shape))}>"


class Cache(Sequence):
    """The volumes of a cache, in the order of their folders' names."""

    def __init__(self, folder: str | Path, split: str | None = None):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such folder")
        volumes = [CachedVolume(path) for path in sorted(self.folder.glob("*.ome.zarr"))]
        if not volumes:
            raise ValueError(f"{folder}: no volume of a voco cache in it")
        self._volumes = [volume for volume in volumes if split is None or volume.split == split]
        if not self._volumes:
            raise ValueError(f"{folder}: none of {len(volumes)} volumes is of the split {split!r}")

    def __len__(self) -> int:
        return len(self._volumes)

    def __getitem__(self, index):
        return self._volumes[index]

    def __iter__(self) -> Iterator[CachedVolume]:
        return iter(self._volumes)

    def __repr__(self) -> str:
        return f"<Cache {self.folder}, {len(self)} volumes>"


def open_cache(folder: str | Path, split: str | None = None) -> Cache:
    """split: 'training', 'validation' or 'test' alone; all where None."""
    return Cache(folder, split)
