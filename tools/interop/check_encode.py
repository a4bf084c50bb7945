"""Checks voco encode and voco's event files with MONAI, NumPy, nibabel and TensorBoard.

    python tools/interop/check_encode.py build/voco

Trains a tiny encoder on phantoms, then compares: embeddings of raw boxes, cubic and not, and the feature maps of all five
levels with those of MONAI's SwinUNETR encoder on the same weights; .npy, .csv and .safetensors with each other, each by its
own reader; affines of maps by nibabel; embeddings of sliding crops with MONAI's on crops cut in Python from what voco
prepare writes; the scalars of a run, killed and resumed, as TensorBoard's EventAccumulator reads them, with metrics.jsonl.
Needs monai (1.5 or later), torch, safetensors, nibabel and tensorboard. Prints the largest differences; the exit status is
0 where all hold.
"""
import csv
import glob
import json
import os
import subprocess
import sys
import tempfile

import nibabel
import numpy
import torch
from monai.networks.nets import SwinUNETR
from safetensors import safe_open
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

BOUND = 1e-4
LEVELS = ["encoder1", "encoder2", "encoder3", "encoder4", "encoder10"]
SCALARS = {
    "loss/total": "loss",
    "loss/intra": "intra",
    "loss/inter": "inter",
    "loss/reg": "reg",
    "learning/position_accuracy": "position_accuracy",
    "learning/correlation": "correlation",
    "embeddings/effective_rank": "effective_rank",
    "embeddings/feature_spread": "feature_spread",
    "optimiser/learning_rate": "learning_rate",
    "optimiser/gradient_norm": "grad_norm",
    "speed/crops_per_second": "crops_per_second",
}
RECIPE = """model: {feature_size: 12, roi: 48, projector: 32, patch_merging: fixed}
sampling: {crops: 1, base_grid: [1, 2]}
optimiser: {warm_up: 0}
"""


class Encoder:
    def __init__(self, checkpoint):
        weights = {k[9:]: v for k, v in load_file(checkpoint).items() if k.startswith("backbone.")}
        self.model = SwinUNETR(in_channels=1, out_channels=2, feature_size=12, use_v2=True)
        result = self.model.load_state_dict(weights, strict=False)
        assert not result.unexpected_keys, result.unexpected_keys
        assert all(k.startswith(("decoder", "out.")) for k in result.missing_keys), result.missing_keys
        self.model.eval()

    def levels(self, box):
        """The five feature maps [channels, x, y, z] of a box [x, y, z]."""
        model = self.model
        x = torch.as_tensor(numpy.ascontiguousarray(box))[None, None]
        with torch.no_grad():
            hidden = model.swinViT(x, model.normalize)
            maps = [model.encoder1(x), model.encoder2(hidden[0]), model.encoder3(hidden[1]), model.encoder4(hidden[2]), model.encoder10(hidden[4])]
        return [m[0].numpy() for m in maps]

    def embedding(self, box):
        return numpy.concatenate([m.mean(axis=(1, 2, 3)) for m in self.levels(box)])


def relative(found, expected):
    assert found.shape == expected.shape, (found.shape, expected.shape)
    return float(numpy.linalg.norm(found - expected) / numpy.linalg.norm(expected))


def check(what, value, bound=BOUND):
    print(f"{what}: {value:.1e} (at most {bound:.0e})")
    assert value <= bound, what


def check_raw(voco, encoder):
    worst, worst_map, worst_largest = 0.0, 0.0, 0.0
    generator = numpy.random.default_rng(1)
    affine = numpy.array([[-2, 0, 0.3, 10], [0, 1.5, 0, -20], [0.2, 0, 3, 30], [0, 0, 0, 1]])
    for size in [(64, 64, 64), (48, 48, 48), (48, 80, 64), (96, 48, 48), (112, 64, 80)]:
        coarse = generator.random([s // 16 for s in size])
        box = (numpy.kron(coarse, numpy.ones((16, 16, 16))) * 0.7 + 0.3 * generator.random(size)).astype(numpy.float32)
        nibabel.save(nibabel.Nifti1Image(box, affine), "box.nii.gz")
        voco("encode", "run", "box.nii.gz", "--raw", "--out", "box.npy")
        found = numpy.load("box.npy")
        expected = encoder.embedding(box)
        worst = max(worst, relative(found[0], expected))
        for level, features in enumerate(encoder.levels(box)):
            voco("encode", "run", "box.nii.gz", "--raw", "--dense", "--level", str(level), "--out", "map.nii.gz")
            image = nibabel.load("map.nii.gz")
            data = image.get_fdata(dtype=numpy.float32)
            expected = numpy.moveaxis(features, 0, -1)
            worst_map = max(worst_map, relative(data, expected))
            worst_largest = max(worst_largest, float(abs(data - expected).max() / abs(expected).max()))
            stride = [1, 2, 4, 8, 32][level]
            centre = affine @ numpy.array([(stride - 1) / 2] * 3 + [1])
            assert numpy.allclose(image.affine[:3, 3], centre[:3], atol=1e-4), (image.affine, centre)
            assert numpy.allclose(image.affine[:3, :3], affine[:3, :3] * stride, atol=1e-4)
    check("raw boxes, embeddings against MONAI, relative L2", worst)
    check("raw boxes, feature maps of five levels against MONAI, relative L2", worst_map)
    check("                                     largest difference / largest value", worst_largest, 1e-3)


def check_sliding(voco, encoder):
    source = sorted(glob.glob("data/imagesTr/*.nii.gz"))[0]
    voco("prepare", source, "seen.nii.gz", "--roi", "48")
    image = nibabel.load("seen.nii.gz")
    volume = image.get_fdata(dtype=numpy.float32)
    for ending in ("npy", "csv", "safetensors"):
        voco("encode", "run", source, "--out", f"rows.{ending}", "--stride", "20")
    with safe_open("rows.safetensors", "numpy") as file:
        rows = {key: file.get_tensor(key) for key in file.keys()}
        metadata = file.metadata()
    assert json.loads(metadata["volumes"]) == [source], metadata
    assert metadata["stride"] == "20" and metadata["roi"] == "48" and metadata["preset"] == "abdomen"
    array = numpy.load("rows.npy")
    assert array.dtype == numpy.float32 and array.flags["C_CONTIGUOUS"] and (array == rows["embedding"]).all()
    with open("rows.csv", newline="") as file:
        table = list(csv.DictReader(file))
    values = numpy.array([[float(row[f"e{i}"]) for i in range(array.shape[1])] for row in table], dtype=numpy.float32)
    assert (values == array).all(), "csv rounds"
    assert [[int(row[a]) for a in "xyz"] for row in table] == rows["position"].tolist()
    worst, furthest = 0.0, 0.0
    for found, start, mm, row in zip(array, rows["position"], rows["position_mm"], table):
        crop = volume[tuple(slice(s, s + 48) for s in start)]
        worst = max(worst, relative(found, encoder.embedding(crop)))
        centre = (image.affine @ [*(start + 23.5), 1])[:3]
        furthest = max(furthest, float(abs(centre - mm).max()), max(abs(centre[i] - float(row[a + "_mm"])) for i, a in enumerate("xyz")))
    assert (rows["volume"] == 0).all()
    check(f"{len(array)} sliding crops, embeddings against MONAI, relative L2", worst)
    check("their centres in mm", furthest, 1e-2)
    check("mean", relative(rows["mean"][0], array.mean(axis=0, dtype=numpy.float64).astype(numpy.float32)), 1e-6)


def check_map(voco, encoder):
    """A sliding feature map against the mean of MONAI's maps of the same windows."""
    volume = nibabel.load("seen.nii.gz").get_fdata(dtype=numpy.float32)
    voco("encode", "run", sorted(glob.glob("data/imagesTr/*.nii.gz"))[0], "--dense", "--level", "2", "--out", "map.nii.gz")
    found = nibabel.load("map.nii.gz").get_fdata(dtype=numpy.float32)
    size = [-(-n // 4) for n in volume.shape]
    padded = numpy.zeros([4 * n for n in size], dtype=numpy.float32)
    padded[tuple(slice(0, n) for n in volume.shape)] = volume
    starts = [sorted({*range(0, n - 48, 24), n - 48}) for n in padded.shape]
    total = numpy.zeros([*size, 24])
    count = numpy.zeros(size)
    for x in starts[0]:
        for y in starts[1]:
            for z in starts[2]:
                features = encoder.levels(padded[x : x + 48, y : y + 48, z : z + 48])[2]
                place = tuple(slice(s // 4, s // 4 + 12) for s in (x, y, z))
                total[place] += numpy.moveaxis(features, 0, -1)
                count[place] += 1
    check("a map of sliding crops against MONAI, relative L2", relative(found, total / count[..., None]))


def check_events(voco):
    with open("run/metrics.jsonl") as file:
        lines = [json.loads(line) for line in file]
    events = EventAccumulator("run", size_guidance={"scalars": 0})
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == sorted(SCALARS), events.Tags()
    for tag, key in SCALARS.items():
        found = [(e.step, e.value) for e in events.Scalars(tag)]
        expected = [(line["step"], float(numpy.float32(line[key]))) for line in lines]
        assert [s for s, _ in found] == [s for s, _ in expected], (tag, found)
        assert all(abs(a - b) <= 1e-6 * abs(b) for (_, a), (_, b) in zip(found, expected)), tag
    image = events.Images("crops")[0]
    assert (image.step, image.width, image.height) == (0, 3 * 49 - 1, 48), image[:4]
    print(f"{len(lines)} steps of {len(SCALARS)} scalars in TensorBoard, of a run that was resumed from an earlier step: as in metrics.jsonl")


def main():
    program = os.path.abspath(sys.argv[1])

    def voco(*arguments):
        subprocess.run([program, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        with open("recipe.yaml", "w") as file:
            file.write(RECIPE)
        voco("phantom", "data", "--count", "2", "--size", "26x24x30", "--spacing", "4")
        voco("pretrain", "data", "--out", "run", "--recipe", "recipe.yaml", "--steps", "6", "--batch", "1", "--checkpoint-every", "3")
        os.remove("run/checkpoint-00000006.safetensors")  # as if killed after step 6: steps 3 to 5 are done again
        voco("pretrain", "--out", "run", "--resume", "--steps", "8")
        encoder = Encoder("run/checkpoint-00000008.safetensors")
        check_raw(voco, encoder)
        check_sliding(voco, encoder)
        check_map(voco, encoder)
        check_events(voco)


if __name__ == "__main__":
    main()
