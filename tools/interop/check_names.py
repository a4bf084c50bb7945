"""Checks that a .pt of PyTorch arrives in MONAI's SwinUNETR through voco convert, whatever its names look like.

    python tools/interop/check_names.py build/voco [--quick]

A SwinUNETR of the installed MONAI, of either patch merging that it has, with drawn weights. Its encoder is saved as others
save it: as published, behind module., backbone., student., with swin_vit, in state_dict, model, network_weights and so on, and
as VoCo's training code saves it, with both projectors and an optimiser. Of feature size 12 all combinations are converted, and
every tensor must come out equal; of 48 (`base`) those that users have, and the result must load with no missing or unexpected
key of the encoder, and its embedding and five feature maps must be those of voco encode --raw, to 1e-4.
"""
import collections
import itertools
import json
import os
import sys
import tempfile

import nibabel
import numpy
import torch
from safetensors.torch import load_file

import encoders
from figures import at_most, exactly, run

BOUND = 1e-4
DICTS = ((), ("state_dict",), ("model",), ("model_state_dict",), ("network_weights",), ("net",), ("network",), ("model", "state_dict"))
MODULES = ("", "module.", "backbone.", "module.backbone.", "student.", "module.student.", "student.backbone.", "module.module.")
SPELLINGS = ("swinViT", "swin_vit", "swin_vit, mlp.fc1")


def spelt(name, spelling):
    if spelling.startswith("swin_vit"):
        name = name.replace("swinViT.", "swin_vit.")
    return name.replace("mlp.linear", "mlp.fc") if spelling.endswith("fc1") else name


def saved_as(encoder, dicts, module, spelling):
    content = collections.OrderedDict((module + spelt(name, spelling), tensor) for name, tensor in encoder.items())
    for key in reversed(dicts):
        content = {"epoch": 3, key: content, "best_loss": 0.25, "args": {"lr": 1e-4, "betas": [0.9, 0.999]}}
    return content


def training_checkpoint(encoder, feature_size):
    """With projectors, one of which an encoder must not be taken for, and the state of an optimiser."""
    state = {f"module.backbone.{name}": tensor for name, tensor in encoder.items()}
    for projector in ("student", "teacher"):
        widths = (24 * feature_size, 32, 32, 32)
        for layer in range(3):
            state[f"module.{projector}.layer{layer + 1}.0.weight"] = torch.rand(widths[layer + 1], widths[layer])
            state[f"module.{projector}.layer{layer + 1}.0.bias"] = torch.rand(widths[layer + 1])
    moments = {i: {"step": torch.tensor(7.0), "exp_avg": torch.rand(3), "exp_avg_sq": torch.rand(3)} for i in range(4)}
    return {"global_step": 7, "state_dict": state, "optimizer": {"state": moments, "param_groups": [{"lr": 1e-4, "params": list(range(4))}]}}


def users_forms(encoder, whole, name):
    """What people have, by what they call it."""
    yield f"{name}, flat", saved_as(encoder, (), "", "swinViT")
    yield f"{name}, whole SwinUNETR in state_dict", {"state_dict": whole}
    yield "checkpoint of VoCo's training code", training_checkpoint(encoder, 48)
    yield "state_dict, module.", saved_as(encoder, ("state_dict",), "module.", "swinViT")
    yield "state_dict, backbone.", saved_as(encoder, ("state_dict",), "backbone.", "swinViT")
    yield "state_dict, module.student.", saved_as(encoder, ("state_dict",), "module.student.", "swinViT")
    yield "model, swin_vit", saved_as(encoder, ("model",), "", "swin_vit")
    yield "network_weights, module.swin_vit, mlp.fc1", saved_as(encoder, ("network_weights",), "module.", "swin_vit, mlp.fc1")
    yield "model in state_dict, student.", saved_as(encoder, ("model", "state_dict"), "student.", "swinViT")


def convert(voco, content, order, folder, ending, name="VoCo_B_SSL_head.pt"):
    theirs, ours = os.path.join(folder, name), os.path.join(folder, "encoder" + ending)
    torch.save(content, theirs)
    report = json.loads(run(voco, "convert", theirs, ours, "--names", "monai", "--trained-with", order, "--force", "--json"))
    assert report["missing"] == [], report
    if ending == ".safetensors":
        return ours, load_file(ours)
    return ours, torch.load(ours, weights_only=True)["state_dict"]


def assert_equal(state, encoder):
    assert state.keys() == encoder.keys(), state.keys() ^ encoder.keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in encoder.items())


def check_all_combinations(voco, merging, folder):
    model = encoders.drawn(12, merging, 1)
    order, encoder, count = encoders.patch_merging_of(model), encoders.encoder_of(model), 0
    combinations = list(itertools.product(DICTS, MODULES, SPELLINGS))
    for dicts, module, spelling in combinations:
        try:
            _, state = convert(voco, saved_as(encoder, dicts, module, spelling), order, folder, ".pt", "model_final.pth")
            assert_equal(state, encoder)
        except AssertionError as error:
            raise AssertionError(f"{dicts}, {module}, {spelling}: {error}") from error
        count += 1
    exactly(f"MONAI {encoders.VERSION}, {order}: combinations of dicts, prefixes and spellings, all tensors equal", count, len(combinations))


def check_form(voco, what, content, model, order, merging, crop, wanted, folder):
    ours, state = convert(voco, content, order, folder, ".safetensors")
    assert_equal(state, encoders.encoder_of(model))
    loaded = encoders.load_strictly(state, 48, merging)
    found = encoders.embedding(encoders.feature_maps(loaded, crop))
    out = os.path.join(folder, "embedding.npy")
    run(voco, "encode", ours, os.path.join(folder, "crop.nii.gz"), "--raw", "--out", out)
    embedded = numpy.load(out)[0]
    apart = max(encoders.distance(embedded, found), encoders.distance(embedded, encoders.embedding(wanted)))
    at_most(f"MONAI {encoders.VERSION}, {order}, {what}: {len(state)} loaded, 0 missing, 0 unexpected, embedding", apart, BOUND)
    return ours


def check_maps(voco, checkpoint, order, wanted, folder):
    worst = 0.0
    for level, features in enumerate(wanted):
        out = os.path.join(folder, "map.nii.gz")
        run(voco, "encode", checkpoint, os.path.join(folder, "crop.nii.gz"), "--raw", "--dense", "--level", str(level), "--out", out)
        found = nibabel.load(out).get_fdata(dtype=numpy.float32)
        worst = max(worst, encoders.distance(found, numpy.moveaxis(features, 0, -1)))
    at_most(f"MONAI {encoders.VERSION}, {order}: the five feature maps of a crop of 64^3", worst, BOUND)


def check_base(voco, merging, quick, folder):
    model = encoders.drawn(48, merging, 2)
    order, encoder = encoders.patch_merging_of(model), encoders.encoder_of(model)
    parameters = sum(p.numel() for name, p in model.named_parameters() if name.startswith(encoders.PARTS))
    exactly(f"MONAI {encoders.VERSION}, base: parameters of the encoder", parameters, 53164146)
    crop = encoders.write_crop(os.path.join(folder, "crop.nii.gz"), 3)
    wanted = encoders.feature_maps(model, crop)
    for number, (what, content) in enumerate(users_forms(encoder, model.state_dict(), "VoCo_B_SSL_head.pt")):
        if quick and number > 2:
            break
        ours = check_form(voco, what, content, model, order, merging, crop, wanted, folder)
    check_maps(voco, ours, order, wanted, folder)


def main():
    voco, quick = sys.argv[1], "--quick" in sys.argv
    for merging in encoders.MERGINGS:
        with tempfile.TemporaryDirectory() as folder:
            check_all_combinations(voco, merging, folder)
            check_base(voco, merging, quick, folder)


if __name__ == "__main__":
    main()
