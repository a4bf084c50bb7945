"""Checks encoders that go from one generation of MONAI to the other through voco convert.

    python tools/interop/check_generations.py build/voco save FOLDER     with each MONAI in turn, then
    python tools/interop/check_generations.py build/voco load FOLDER     with each again

`save` draws a `base` encoder for either patch merging of the installed MONAI, saves it as VoCo's training code does, and what
MONAI computes with it. `load` takes every file that either MONAI saved to each order of its own: where that order makes the same
function, MONAI and voco encode --raw must give the same embedding, to 1e-4; where it cannot, voco must refuse. voco.load_encoder of
the Python package must come to the same end.
"""
import os
import sys

import nibabel
import numpy
import torch
import voco as package

import encoders
from figures import at_most, refusal, run

BOUND = 1e-4


def save(folder):
    os.makedirs(folder, exist_ok=True)
    for number, merging in enumerate(encoders.MERGINGS):
        model = encoders.drawn(48, merging, number)
        name = os.path.join(folder, f"{encoders.VERSION}-{encoders.patch_merging_of(model)}")
        torch.save({"state_dict": {f"module.backbone.{n}": t for n, t in encoders.encoder_of(model).items()}}, name + ".pt")
        crop = encoders.write_crop(name + ".nii.gz", number)
        numpy.save(name + ".npy", encoders.embedding(encoders.feature_maps(model, crop)))


def load(voco, folder):
    for file in sorted(os.listdir(folder)):
        if not file.endswith(".pt"):
            continue
        name, order = os.path.join(folder, file[:-3]), file[:-3].rsplit("-", 1)[1]
        for merging in encoders.MERGINGS:
            check(voco, name, order, merging)


def check(voco, name, order, merging):
    own = encoders.patch_merging_of(encoders.swin_unetr(12, merging))
    label = f"MONAI {os.path.basename(name).replace('-', ', ')} in MONAI {encoders.VERSION}, {own}"
    ours = f"{name}-to-{encoders.VERSION}-{own}.safetensors"
    command = (voco, "convert", name + ".pt", ours, "--names", "monai", "--trained-with", order, "--patch-merging", own, "--force")
    if own not in encoders.REACHABLE[order]:
        line = refusal(*command)
        assert order in line and own in line and "legacy" in line, line
        assert_package_refuses(name + ".pt", order, merging)
        print(f"{label}: refused, by voco and its Python package", flush=True)
        return
    run(*command)
    embedded = ours + ".npy"
    run(voco, "encode", ours, name + ".nii.gz", "--raw", "--out", embedded)
    wanted, crop = numpy.load(name + ".npy"), read_crop(name + ".nii.gz")
    worst = encoders.distance(numpy.load(embedded)[0], wanted)
    for path, told in ((ours, None), (name + ".pt", order)):  # converted, and as it was
        model = encoders.swin_unetr(48, merging)
        report = package.load_encoder(path, model, patch_merging=told)
        assert not report.missing and not report.unexpected, report
        worst = max(worst, encoders.distance(encoders.embedding(encoders.feature_maps(model, crop)), wanted))
    os.remove(ours)
    at_most(f"{label}: embeddings of MONAI and voco", worst, BOUND)


def read_crop(path):
    return nibabel.load(path).get_fdata(dtype=numpy.float32)


def assert_package_refuses(path, order, merging):
    try:
        package.load_encoder(path, encoders.swin_unetr(48, merging), patch_merging=order)
    except ValueError as error:
        assert "patch merging" in str(error), error
        return
    raise AssertionError(f"{path}: loaded, though the order is another")


if __name__ == "__main__":
    if sys.argv[2] == "save":
        save(sys.argv[3])
    else:
        load(sys.argv[1], sys.argv[3])
