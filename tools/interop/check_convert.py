"""Checks that what voco convert writes is what MONAI's SwinUNETR loads and computes with.

    python tools/interop/check_convert.py build/voco

Networks of PyTorch and MONAI (tools/golden/voco_reference.py) with random weights, of feature size 12 in every order of
patch merging and of 48, are saved as VoCo's training code saves them. Converted to MONAI's names, as .pt and as safetensors,
to either order that keeps the function, with 1 and with 3 input channels, the encoder must load into
SwinUNETR(use_v2=True) with no unexpected key and nothing missing but the decoder, and give the network's embeddings (to
1e-5, relative L2), as must voco itself with the weights converted to its own names. Then what users have: a whole SwinUNETR
behind module., an encoder with swin_vit. Prints a line per conversion; the exit status is 0 where all agree.
"""
import json
import os
import subprocess
import sys
import tempfile

import torch
from monai.networks.nets import SwinUNETR
from safetensors.torch import load_file, save_file

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden"))
import voco_reference  # noqa: E402

BOUND = 1e-5
ROI = 64  # what a file that does not say counts as
CROPS, BASES = 1, 2  # of one volume
REACHABLE = {"legacy": ("legacy",), "fixed": ("fixed", "v2"), "v2": ("v2", "fixed")}


def convert(voco, *arguments):
    done = subprocess.run([voco, "convert", *arguments, "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(voco, *arguments):
    done = subprocess.run([voco, "convert", *arguments], capture_output=True, text=True)
    assert done.returncode == 1, "not refused"
    return done.stderr.strip()


def load(path):
    if path.endswith(".safetensors"):
        return load_file(path)
    return torch.load(path, weights_only=True, mmap=True)["state_dict"]


def swin_unetr(state, feature_size, channels, order):
    """Strict for the encoder: nothing unexpected, nothing missing but the decoder."""
    model = SwinUNETR(in_channels=channels, out_channels=2, feature_size=feature_size, use_v2=True,
                      downsample=voco_reference.PATCH_MERGING[order])
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected, unexpected
    assert all(name.startswith(("decoder", "out.")) for name in missing), missing
    return model.eval()


@torch.no_grad()
def embed(model, crops):
    hidden = model.swinViT(crops, model.normalize)
    maps = (model.encoder1(crops), model.encoder2(hidden[0]), model.encoder3(hidden[1]), model.encoder4(hidden[2]),
            model.encoder10(hidden[4]))
    return torch.cat([m.mean(dim=(2, 3, 4)) for m in maps], dim=1)


def distance(found, expected):
    difference = ((found - expected).norm() / expected.norm()).item()
    assert difference < BOUND, difference
    return difference


def random_network(feature_size, order):
    """Norms are drawn, too, so that a block in the wrong place shows."""
    torch.manual_seed(feature_size)
    model = voco_reference.VoCo(feature_size, 32, order, checkpointing="none")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.rand_like(parameter) - 0.5)
    return model.eval()


def random_batch(path):
    crops = torch.rand(1, CROPS, ROI, ROI, ROI)
    bases = torch.rand(1, BASES, ROI, ROI, ROI)
    labels = torch.zeros(1, CROPS, BASES)
    labels[..., 0] = 1
    save_file({"crops": crops, "bases": bases, "labels": labels}, path)
    return torch.cat([crops[0], bases[0]])[:, None]


def embeddings_of_voco(voco, batch, weights, folder):
    out = os.path.join(folder, "replayed.safetensors")
    done = subprocess.run([voco, "replay", batch, "--checkpoint", weights, "--out", out], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return load_file(out)["step0/embedding"]


def check_network(voco, feature_size, order, folder):
    model = random_network(feature_size, order)
    theirs = os.path.join(folder, f"model_current_epoch-{feature_size}-{order}.pt")
    torch.save({"global_step": 7, "state_dict": {f"module.{name}": t for name, t in model.state_dict().items()}}, theirs)
    batch = os.path.join(folder, "batch.safetensors")
    crops = random_batch(batch)
    with torch.no_grad():
        wanted = model.backbone(crops)
    told = ("--trained-with", order)
    label = f"feature size {feature_size}, {order}"

    ours = os.path.join(folder, f"ours-{feature_size}-{order}.safetensors")
    report = convert(voco, theirs, ours, *told)
    assert report["missing"] == [] and report["unexpected"] == [], report
    found = load_file(ours)
    assert found.keys() == model.state_dict().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in model.state_dict().items())
    difference = distance(embeddings_of_voco(voco, batch, ours, folder), wanted)
    print(f"{label}: {len(found)} tensors equal in voco's names; voco's embeddings {difference:.1e} (at most {BOUND:g})")

    for to in REACHABLE:
        path = os.path.join(folder, f"encoder-{feature_size}-{order}-{to}")
        if to not in REACHABLE[order]:
            assert "legacy" in refused(voco, theirs, path + ".pt", *told, "--patch-merging", to)
            print(f"{label} as {to}: refused")
            continue
        for ending, channels in (("pt", 1), ("safetensors", 1), ("pt", 3)):
            out = f"{path}-{channels}.{ending}"
            report = convert(voco, theirs, out, *told, "--names", "monai", "--patch-merging", to, "--in-channels", str(channels))
            assert report["missing"] == [] and report["unexpected"] == [], report
            state = load(out)
            indices = [tensor for name, tensor in state.items() if name.endswith("relative_position_index")]
            assert len(indices) == 8 and all(tensor.dtype == torch.int64 for tensor in indices)
            encoder = swin_unetr(state, feature_size, channels, to)
            difference = distance(embed(encoder, crops.repeat(1, channels, 1, 1, 1)), wanted)
            print(f"{label} as {to}, .{ending}, {channels} channels: {len(state)} tensors load, embeddings {difference:.1e} (at most {BOUND:g})")


def check_what_users_have(voco, folder):
    theirs = os.path.join(folder, "theirs.pt")
    ours = os.path.join(folder, "theirs.safetensors")
    whole = SwinUNETR(in_channels=1, out_channels=5, feature_size=48, use_v2=True).state_dict()
    encoder = {name: tensor for name, tensor in whole.items() if name.startswith(("swinViT", "encoder"))}
    for what, saved in {
        "a whole SwinUNETR behind module.": {"state_dict": {f"module.{name}": t for name, t in whole.items()}},
        "its encoder alone, as published": encoder,
        "its encoder with swin_vit": {"model": {name.replace("swinViT", "swin_vit"): t for name, t in encoder.items()}},
    }.items():
        torch.save(saved, theirs)
        report = convert(voco, theirs, ours, "--names", "voco", "--force", "--trained-with", "fixed")
        assert report["loaded"] == 137, report
        assert all(name.startswith(("state_dict.module.decoder", "state_dict.module.out")) for name in report["unexpected"])
        found = load_file(ours)
        assert len(found) == len(encoder) and all(torch.equal(found[f"backbone.{n}"], t) for n, t in encoder.items())
        print(f"{what}: {report['loaded']} loaded, {len(report['unexpected'])} left")


def main():
    voco = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        for feature_size, order in ((12, "legacy"), (12, "fixed"), (12, "v2"), (48, "fixed")):
            check_network(voco, feature_size, order, folder)
        check_what_users_have(voco, folder)


if __name__ == "__main__":
    main()
