"""Random crops of a cache, for PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from .cache import open_cache


class CacheDataset(Dataset):
    """Crops from uniformly drawn places, as dicts: image (1, x, y, z) of float32 in [0, 1], position (3) of its first voxel, volume
    (its number in the cache) and name. Zeros where a volume is smaller than the crop.

    Item i is a crop of volume i // crops_per_volume. Its place is a function of (seed, epoch, i), not of workers or order, so runs
    repeat; set_epoch draws others. transform, where given, is called with the dict (as MONAI's dictionary transforms want it)."""

    def __init__(
        self,
        folder: str | Path,
        crop: tuple[int, int, int] = (96, 96, 96),
        crops_per_volume: int = 1,
        split: str | None = None,
        seed: int = 0,
        transform: Callable[[dict], object] | None = None,
    ):
        self.cache = open_cache(folder, split)
        self.crop, self.crops_per_volume = tuple(crop), crops_per_volume
        self.seed, self.epoch, self.transform = seed, 0, transform

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.cache) * self.crops_per_volume

    def __getitem__(self, index: int) -> object:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = index // self.crops_per_volume
        volume = self.cache[number]
        draw = np.random.default_rng([self.seed, self.epoch, index])
        first = [int(draw.integers(0, max(have - want, 0) + 1)) for have, want in zip(volume.shape, self.crop)]
        voxels = volume[tuple(slice(at, at + want) for at, want in zip(first, self.crop))]
        image = np.zeros((1, *self.crop), np.float32)
        image[(0, *map(slice, voxels.shape))] = voxels
        item = {"image": torch.from_numpy(image), "position": torch.tensor(first), "volume": number, "name": volume.name}
        return item if self.transform is None else self.transform(item)
