"""Checks the Python package of voco on what voco writes: embeddings, a cache that a PyTorch loop trains on, encoders.

    python tools/interop/check_package.py build/voco

read_embeddings must give the same rows, volumes and places from .safetensors, .npy and .csv, of crops, of means and of one level.
open_cache must give the voxels of voco prepare, quantised; CacheDataset must give the same crops whatever the number of workers, and
a loop over it must train a SwinUNETR that load_encoder has filled from the run. The package is also installed alone into an empty
environment, where it must read embeddings without PyTorch.
"""
import json
import os
import subprocess
import sys
import tempfile

import nibabel
import numpy
import torch
import voco as package
from safetensors import safe_open

import encoders
from figures import at_most, exactly, run

RECIPE = """model: {feature_size: 12, roi: 48, projector: 32, patch_merging: fixed}
sampling: {crops: 1, base_grid: [1, 2]}
optimiser: {warm_up: 0}
"""
ENDINGS = (".safetensors", ".npy", ".csv")
ALONE = """import sys, voco
table = voco.read_embeddings(sys.argv[1])
assert "torch" not in sys.modules
print(len(table), table.embeddings.shape[1], len(set(table.volumes)))
"""


def check_embeddings(voco):
    """Returns how many rows there are."""
    for label, options in (("crops", ()), ("means", ("--mean",)), ("one level", ("--level", "2"))):
        tables = []
        for ending in ENDINGS:
            report = json.loads(run(voco, "encode", "run", "data", "--out", "rows" + ending, *options, "--json"))
            tables.append(package.read_embeddings("rows" + ending))
        with safe_open("rows.safetensors", "numpy") as file:
            names = json.loads(file.metadata()["volumes"])
            rows = file.get_tensor("embedding")
            places = file.get_tensor("position") if "position" in file.keys() else None
            means = file.get_tensor("mean") if "mean" in file.keys() else None
        per_row = names if label == "means" else [name for name, k in zip(names, rows_of(report)) for _ in range(k)]
        for ending, table in zip(ENDINGS, tables):
            assert table.embeddings.dtype == numpy.float32 and (table.embeddings == rows).all(), (label, ending)
            assert table.volumes == (None if ending == ".npy" else per_row), (label, ending, table.volumes)
            if places is None or ending == ".npy":
                assert table.positions is None and table.positions_mm is None, (label, ending)
            else:
                assert table.positions.dtype == numpy.int32 and (table.positions == places).all(), (label, ending)
                assert table.positions_mm.shape == places.shape
        if means is not None:
            assert (tables[0].means == means).all() and means.shape == (len(names), rows.shape[1])
        exactly(f"embeddings, {label}: rows that .safetensors, .npy and .csv say alike", len(tables[0]), len(rows))
    return len(package.read_embeddings("rows.csv"))


def rows_of(report):
    return [volume["rows"] for volume in report["volumes"]]


def check_cache(voco):
    worst, voxels = 0.0, 0
    for bits, levels in ((8, 255), (12, 4095), (16, 65535)):
        folder = f"cache{bits}"
        run(voco, "cache", "data", "--out", folder, "--roi", "48", "--bits", str(bits))
        for volume in package.open_cache(folder):
            run(voco, "prepare", str(volume.source), "prepared.nii.gz", "--roi", "48")
            image = nibabel.load("prepared.nii.gz")
            prepared = image.get_fdata(dtype=numpy.float32)
            first = numpy.linalg.inv(volume.affine) @ image.affine[:, 3]  # a cache pads to the window
            wanted = numpy.zeros(volume.shape, numpy.float32)
            wanted[tuple(slice(round(at), round(at) + n) for at, n in zip(first, prepared.shape))] = prepared
            worst = max(worst, float(abs(volume[...].astype(float) - wanted).max()) * levels)
            assert (volume[5:9, 2, ...] == volume[...][5:9, 2]).all()
            voxels += wanted.size
    at_most(f"cache of 8, 12 and 16 bits by zarr: {voxels} voxels against voco prepare, in steps of the cache", worst, 0.501)


def batches(workers):
    data = package.CacheDataset("cache8", crop=(64, 64, 64), crops_per_volume=2, seed=3)
    return list(torch.utils.data.DataLoader(data, batch_size=2, num_workers=workers))


def check_training(voco):
    alone, parallel = batches(0), batches(2)
    for a, b in zip(alone, parallel, strict=True):
        assert torch.equal(a["image"], b["image"]) and torch.equal(a["position"], b["position"]) and a["name"] == b["name"]
    cache = package.open_cache("cache8")
    first = alone[0]
    x, y, z = (int(v) for v in first["position"][0])
    voxels = cache[int(first["volume"][0])][x : x + 64, y : y + 64, z : z + 64]
    assert (first["image"][0, 0, : voxels.shape[0], : voxels.shape[1], : voxels.shape[2]].numpy() == voxels).all()
    exactly("CacheDataset: crops alike with 0 and 2 workers", sum(len(b["image"]) for b in parallel), 2 * len(cache))

    torch.manual_seed(1)
    model = encoders.swin_unetr(12, "merging" if encoders.patch_merging_of(encoders.swin_unetr(12, "merging")) == "fixed" else "mergingv2")
    report = package.load_encoder("run", model)
    exactly("load_encoder of a run: missing, unexpected", [len(report.missing), len(report.unexpected)], [0, 0])
    optimiser = torch.optim.AdamW(model.train().parameters(), lr=1e-3)
    losses = []
    for _ in range(3):
        for batch in parallel:
            loss = torch.nn.functional.cross_entropy(model(batch["image"]), (batch["image"][:, 0] > 0.5).long())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
    per_epoch = len(losses) // 3
    at_most("training SwinUNETR on CacheDataset: loss of the third epoch by that of the first", sum(losses[-per_epoch:]) / sum(losses[:per_epoch]), 0.95)


def check_alone(source):
    """Only what pip brings with the package, and what it brings is enough."""
    subprocess.run([sys.executable, "-m", "venv", "alone"], check=True)
    python = os.path.join("alone", "bin", "python")
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", source)
    run("env", "-u", "PYTHONPATH", "PYTHONNOUSERSITE=1", python, "-c", ALONE, "rows.csv")
    found = run(python, "-c", ALONE, "rows.safetensors").split()
    table = package.read_embeddings("rows.csv")
    exactly("the package in an empty environment: rows, values, volumes", [int(n) for n in found], [*table.embeddings.shape, len(set(table.volumes))])


def main():
    voco = os.path.abspath(sys.argv[1])
    source = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "python"))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        with open("recipe.yaml", "w") as file:
            file.write(RECIPE)
        run(voco, "phantom", "data", "--count", "3", "--size", "40x36x44", "--spacing", "4")
        run(voco, "pretrain", "data", "--out", "run", "--recipe", "recipe.yaml", "--steps", "1", "--batch", "1")
        check_embeddings(voco)
        check_cache(voco)
        check_training(voco)
        check_alone(source)


if __name__ == "__main__":
    main()
