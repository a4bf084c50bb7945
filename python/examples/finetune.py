#!/usr/bin/env python3
"""Fine-tunes MONAI's SwinUNETR to segment, once with an encoder that voco pre-trained and once from scratch.

    python finetune.py dataset.json --encoder encoder.pt

dataset.json is a list of the Medical Segmentation Decathlon: "labels", and under "training" and "validation" pairs of "image"
and "label". Both models see the same few labelled volumes, the same crops in the same order, as many steps and the same
learning rate; only the encoder's first weights differ. What is printed is the mean Dice over classes, on the validation volumes.

Needs `pip install torch monai nibabel einops safetensors` and voco's package (pip install ./python)."""

import argparse
import json
import time
from pathlib import Path

import torch
from monai.data import DataLoader, Dataset, decollate_batch
from monai.inferers import sliding_window_inference
from monai.losses import DiceCELoss
from monai.metrics import DiceMetric
from monai.networks.nets import SwinUNETR
from monai.networks.utils import one_hot
from monai.transforms import (
    Compose,
    CropForegroundd,
    EnsureTyped,
    LoadImaged,
    Orientationd,
    RandSpatialCropd,
    ScaleIntensityRanged,
    Spacingd,
    SpatialPadd,
)
from monai.utils import set_determinism

import voco


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="dataset.json of the Medical Segmentation Decathlon")
    parser.add_argument("--encoder", required=True, help="a run, a checkpoint, or what voco convert --names monai wrote")
    parser.add_argument("--feature-size", type=int, default=12, help="of the encoder: 12 tiny, 48 base, 96 large, 192 huge")
    parser.add_argument("--labelled", type=int, default=4, help="training volumes whose labels are used")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=1, help="crops a step, each of another volume")
    parser.add_argument("--crop", type=int, default=64, help="voxels an axis; a multiple of 32")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--spacing", type=float, default=1.5, help="mm")
    parser.add_argument("--window", type=float, nargs=2, default=(-175.0, 250.0), metavar=("LOW", "HIGH"), help="HU")
    parser.add_argument("--every", type=int, default=20, help="steps between printed losses")
    parser.add_argument("--only", choices=("pre-trained", "scratch"), help="train one of the two")
    return parser.parse_args()


def preparation(args: argparse.Namespace) -> list:
    """As voco prepares volumes: RAS, one spacing, a window of HU to [0, 1], the foreground, zeros around what is too small."""
    keys = ("image", "label")
    size = (args.crop,) * 3
    return [
        LoadImaged(keys, ensure_channel_first=True),
        Orientationd(keys, axcodes="RAS", labels=None),
        Spacingd(keys, pixdim=(args.spacing,) * 3, mode=("bilinear", "nearest")),
        ScaleIntensityRanged("image", *args.window, 0.0, 1.0, clip=True),
        CropForegroundd(keys, source_key="image", allow_smaller=True),
        SpatialPadd(keys, spatial_size=size),
        EnsureTyped(keys),
    ]


def entries(data: Path, part: str) -> list[dict]:
    listed = json.loads(data.read_text())[part]
    return [{key: str(data.parent / entry[key]) for key in ("image", "label")} for entry in listed]


def build_model(args: argparse.Namespace, classes: int, device: torch.device) -> SwinUNETR:
    set_determinism(0)
    return SwinUNETR(in_channels=1, out_channels=classes, feature_size=args.feature_size, use_v2=True).to(device)


def train(model: SwinUNETR, volumes: list, args: argparse.Namespace, device: torch.device) -> None:
    """Random crops of labelled volumes; the same crops in the same order whatever the model."""
    set_determinism(1)
    crop = RandSpatialCropd(("image", "label"), roi_size=(args.crop,) * 3, random_size=False)
    loss_of = DiceCELoss(to_onehot_y=True, softmax=True)
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, args.lr, total_steps=args.steps, pct_start=0.1)
    loader = DataLoader(Dataset(volumes * (args.batch * args.steps), crop), batch_size=args.batch, shuffle=True)
    model.train()
    total, since, began = 0.0, 0, time.time()
    for step, batch in enumerate(loader, 1):
        optimiser.zero_grad()
        loss = loss_of(model(batch["image"].to(device)), batch["label"].to(device))
        loss.backward()
        optimiser.step()
        schedule.step()
        total, since = total + loss.item(), since + 1
        if step % args.every == 0 or step == args.steps:
            print(f"  step {step:4d}  loss {total / since:.3f}  {(time.time() - began) / step:.2f} s a step", flush=True)
            total, since = 0.0, 0
        if step == args.steps:
            return


@torch.no_grad()
def mean_dice(model: SwinUNETR, volumes: list, classes: int, args: argparse.Namespace, device: torch.device) -> list[float]:
    """Of each class but the background, over the volumes in which it is."""
    metric = DiceMetric(include_background=False, reduction="mean_batch")
    model.eval()
    for batch in DataLoader(Dataset(volumes), batch_size=1):
        scores = sliding_window_inference(batch["image"].to(device), (args.crop,) * 3, 2, model, overlap=0.25)
        found = one_hot(scores.argmax(1, keepdim=True), classes)
        metric(decollate_batch(found), decollate_batch(one_hot(batch["label"].to(device), classes)))
    return metric.aggregate().tolist()


def main() -> None:
    args = read_arguments()
    torch.set_flush_denormal(True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    labels = json.loads(args.data.read_text())["labels"]
    prepare = Compose(preparation(args))
    labelled = [prepare(entry) for entry in entries(args.data, "training")[: args.labelled]]
    held_out = [prepare(entry) for entry in entries(args.data, "validation")]
    print(f"{len(labelled)} labelled volumes for training, {len(held_out)} for validation, {len(labels)} classes, {device}")

    results = {}
    for start in ("pre-trained", "scratch"):
        if args.only not in (None, start):
            continue
        print(start)
        model = build_model(args, len(labels), device)
        if start == "pre-trained":
            print(f"  encoder: {voco.load_encoder(args.encoder, model)}")
        train(model, labelled, args, device)
        results[start] = mean_dice(model, held_out, len(labels), args, device)

    print(f"Dice on {len(held_out)} validation volumes" + "".join(f"{start:>14}" for start in results))
    for label, name in sorted(labels.items(), key=lambda item: int(item[0])):
        if int(label) > 0:
            print(f"  {name:24}" + "".join(f"{dice[int(label) - 1]:14.3f}" for dice in results.values()))
    print(f"  {'mean':24}" + "".join(f"{sum(dice) / len(dice):14.3f}" for dice in results.values()))


if __name__ == "__main__":
    main()
