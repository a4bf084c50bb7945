"""Checks the networks `large` and `huge`: built by PyTorch, saved, converted, loaded, and what memory that takes.

    python tools/interop/check_large.py build/voco large|huge

A network of VoCo (tools/golden/voco_reference.py) with drawn weights and both projectors is saved as the training code saves it.
Its parameters must be as many as published; voco convert and voco info may take 1.2 times the file's size of memory; the encoder as
.pt and as safetensors must hold equal tensors and load into MONAI's SwinUNETR with no missing or unexpected key of the encoder, and
give the embedding of voco encode --raw, to 1e-4. Needs 14 GB of disk and 10 of memory for `huge`.
"""
import os
import sys
import tempfile

import numpy
import torch
from safetensors import safe_open

import encoders
from figures import at_most, exactly, peak_memory, run

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden"))
import voco_reference  # noqa: E402

BOUND = 1e-4
MEMORY = 1.2  # times the file
SIZES = {"large": (96, 211999362, 220918402), "huge": (192, 847276194, 860913826)}


def build(feature_size, path):
    """Returns parameters of the encoder and of all, and a hash of each tensor of the encoder by its name in MONAI."""
    torch.manual_seed(5)
    model = voco_reference.VoCo(feature_size, 1024, "fixed", checkpointing="none")
    counts = sum(p.numel() for p in model.backbone.parameters()), sum(p.numel() for p in model.parameters())
    torch.save({"global_step": 1, "state_dict": {f"module.{name}": tensor for name, tensor in model.state_dict().items()}}, path)
    return counts, {name: torch.hash_tensor(flat(tensor)).item() for name, tensor in model.backbone.state_dict().items()}


def flat(tensor):
    return tensor.reshape(-1).view(torch.int32) if tensor.dtype == torch.float32 else tensor.reshape(-1)


def convert(voco, what, source, target, *options):
    size = os.path.getsize(source)
    peak = peak_memory(voco, "convert", source, target, *options)
    at_most(f"{what}: memory of voco convert, times the file of {size / 1e9:.2f} GB", peak / size, MEMORY)


def check_equal(path, hashes):
    if path.endswith(".pt"):
        state = torch.load(path, weights_only=True, mmap=True)["state_dict"]
        found = {name: torch.hash_tensor(flat(tensor)).item() for name, tensor in state.items()}
    else:
        with safe_open(path, "pt") as file:
            found = {name: torch.hash_tensor(flat(file.get_tensor(name))).item() for name in file.keys()}
    assert found == hashes, [name for name in hashes if found.get(name) != hashes[name]]
    return len(found)


def check(voco, what, folder):
    feature_size, encoder_count, count = SIZES[what]
    theirs, pt, safetensors = (os.path.join(folder, name) for name in ("theirs.pt", "encoder.pt", "encoder.safetensors"))
    counts, hashes = build(feature_size, theirs)
    exactly(f"{what}: parameters of the encoder", counts[0], encoder_count)
    exactly(f"{what}: parameters with both projectors", counts[1], count)
    size = os.path.getsize(theirs)
    at_most(f"{what}: memory of voco info, times the file", peak_memory(voco, "info", theirs, "--json") / size, MEMORY)
    convert(voco, f"{what} to .pt", theirs, pt, "--names", "monai", "--trained-with", "fixed", "--patch-merging", "fixed")
    os.remove(theirs)
    convert(voco, f"{what} from .pt to safetensors", pt, safetensors)
    tensors = [check_equal(path, hashes) for path in (pt, safetensors)]
    exactly(f"{what}: tensors equal in the .pt and the safetensors of voco", tensors, [len(hashes)] * 2)
    crop = encoders.write_crop(os.path.join(folder, "crop.nii.gz"), 7)
    embedded = os.path.join(folder, "crop.npy")
    run(voco, "encode", safetensors, os.path.join(folder, "crop.nii.gz"), "--raw", "--out", embedded)
    os.remove(safetensors)
    state = torch.load(pt, weights_only=True, mmap=True)["state_dict"]
    model = encoders.load_strictly(state, feature_size, "merging")
    loaded = sum(p.numel() for name, p in model.named_parameters() if name.startswith(encoders.PARTS))
    exactly(f"{what}: parameters loaded by MONAI {encoders.VERSION}, none missing or unexpected", loaded, encoder_count)
    apart = encoders.distance(numpy.load(embedded)[0], encoders.embedding(encoders.feature_maps(model, crop)))
    at_most(f"{what}: embeddings of MONAI and voco", apart, BOUND)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        check(sys.argv[1], sys.argv[2], place)
