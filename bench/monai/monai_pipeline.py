"""The published preparation and sampling, on MONAI: what voco is measured against.

Facts from the published training code (github.com/Luffy03/Large-Scale-Medical): the order and arguments of the
deterministic transforms; that PersistentDataset stores what comes before the first random transform; the random window;
S + K crops, each with its own flips, rotation and shift."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from monai.data import PersistentDataset
from monai.transforms import (
    Compose,
    CropForegroundd,
    EnsureChannelFirstd,
    LoadImaged,
    Orientationd,
    RandFlipd,
    RandRotate90d,
    RandShiftIntensityd,
    RandSpatialCropd,
    ScaleIntensityRanged,
    Spacingd,
    SpatialCropd,
    SpatialPadd,
)
from settings import ROI, WINDOW, Preset

GRID = 3  # K = GRID x GRID base crops
RANDOM_CROPS = 2  # S
CROPS_PER_VOLUME = RANDOM_CROPS + GRID * GRID

Item = dict[str, object]


def deterministic(preset: Preset) -> list:
    """What PersistentDataset stores."""
    return [
        LoadImaged(keys=["image"]),
        EnsureChannelFirstd(keys=["image"]),
        Orientationd(keys=["image"], axcodes="RAS"),
        Spacingd(keys=["image"], pixdim=preset.spacing, mode="bilinear"),
        ScaleIntensityRanged(keys=["image"], a_min=preset.low, a_max=preset.high, b_min=0.0, b_max=1.0, clip=True),
        CropForegroundd(keys=["image"], source_key="image"),
        SpatialPadd(keys=["image"], spatial_size=(ROI, ROI, ROI), mode="constant"),
    ]


def prepare(path: Path, preset: Preset) -> tuple[np.ndarray, np.ndarray]:
    """Voxels (x, y, z) in [0, 1] and the affine, padded to at least the window, as random crops are taken from them."""
    steps = [*deterministic(preset), SpatialPadd(keys=["image"], spatial_size=WINDOW, mode="constant")]
    image = Compose(steps)({"image": str(path)})["image"]
    return image.numpy()[0], np.asarray(image.affine)


def augmented_crop(centre: Sequence[float]) -> Compose:
    return Compose(
        [
            SpatialCropd(keys=["image"], roi_center=[*centre, ROI // 2], roi_size=[ROI] * 3),
            *(RandFlipd(keys=["image"], prob=0.2, spatial_axis=axis) for axis in range(3)),
            RandRotate90d(keys=["image"], prob=0.2, max_k=3),
            RandShiftIntensityd(keys=["image"], offsets=0.1, prob=0.5),
        ]
    )


def position_label(centre: Sequence[int]) -> list[float]:
    """Share of the crop's area that lies in each base crop."""

    def overlap(c: int, base: int) -> int:
        return max(0, min(c + ROI // 2, (base + 1) * ROI) - max(c - ROI // 2, base * ROI))

    return [overlap(centre[0], i) * overlap(centre[1], j) / ROI**2 for i in range(GRID) for j in range(GRID)]


class VolumeContrast:
    """Window -> (random crops, labels, base crops), with the transforms made anew for every sample as the published code
    does."""

    def __call__(self, item: Item) -> tuple[list[Item], np.ndarray, list[Item]]:
        centres = [np.random.randint(ROI // 2, GRID * ROI - ROI // 2, size=2) for _ in range(RANDOM_CROPS)]
        crops = [augmented_crop(centre)(item) for centre in centres]
        labels = np.asarray([position_label(centre) for centre in centres])
        bases = [augmented_crop(((i + 0.5) * ROI, (j + 0.5) * ROI))(item) for i in range(GRID) for j in range(GRID)]
        return crops, labels, bases


def training_set(paths: Sequence[Path], preset: Preset, cache: Path, repeat: int = 1) -> PersistentDataset:
    """The published data set. The random shift of probability 0 is theirs: it ends what is cached."""
    random = [
        RandShiftIntensityd(keys=["image"], offsets=0.1, prob=0.0),
        SpatialPadd(keys=["image"], spatial_size=WINDOW, mode="constant"),
        RandSpatialCropd(keys=["image"], roi_size=WINDOW, random_center=True, random_size=False),
        VolumeContrast(),
    ]
    data = [{"image": str(path)} for path in paths] * repeat
    return PersistentDataset(data=data, transform=Compose([*deterministic(preset), *random]), cache_dir=cache)


class CacheFiller:
    """Fills PersistentDataset's cache one volume at a time and does nothing else with it."""

    def __init__(self, paths: Sequence[Path], preset: Preset, cache: Path) -> None:
        torch.set_num_threads(1)
        self.data = PersistentDataset(
            data=[{"image": str(path)} for path in paths], transform=Compose(deterministic(preset)), cache_dir=cache
        )

    def fill(self, index: int) -> None:
        self.data[index]
