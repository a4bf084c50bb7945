"""Checks that voco reads what torch.save writes and that torch.load reads what voco writes.

    python tools/interop/check_pt.py build/tests/copy_tensors [FILE ...]

copy_tensors reads a .pt or safetensors file and writes all its tensors and scalars to a .pt file. For files made here
(all types, strides, an optimiser's state, random shapes) and for each FILE, torch.load(weights_only=True) of the copy,
mapped and not mapped, must give tensor by tensor what PyTorch says of the original. Also: unzip's own test of the copy,
and storages at multiples of 64 bytes. Prints a line per file; the exit status is 0 where all are equal.
"""
import os
import random
import subprocess
import sys
import tempfile
import zipfile

import torch
from safetensors.torch import load_file

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import make_pt_fixtures as fixtures  # noqa: E402

WRITTEN = {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool}


def flatten_scalars(value, name=""):
    if isinstance(value, torch.Tensor):
        return {}
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        if isinstance(value, torch.dtype):
            value = str(value)
        if isinstance(value, int) and not isinstance(value, bool) and not -2**63 <= value < 2**63:
            value = float(value)
        return {name: value}
    found = {}
    for key, item in items:
        found.update(flatten_scalars(item, f"{name}.{key}" if name else str(key)))
    return found


def random_tensors(count):
    generator = random.Random(1)
    tensors = {}
    for i in range(count):
        shape = [generator.randint(0 if generator.random() < 0.1 else 1, 7) for _ in range(generator.randint(0, 6))]
        tensor = (torch.rand(shape, generator=torch.Generator().manual_seed(i)) * 200 - 100)
        tensor = tensor.to(generator.choice(sorted(WRITTEN, key=str)))
        if len(shape) > 1 and generator.random() < 0.5:
            tensor = tensor.permute(generator.sample(range(len(shape)), len(shape)))
        if len(shape) > 0 and shape[0] > 1 and generator.random() < 0.5:
            tensor = tensor[:: generator.randint(1, 3)]
        tensors[f"layer{i // 5}.{i}"] = tensor
    return tensors


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(
        a.contiguous().reshape(-1).view(torch.uint8), b.contiguous().reshape(-1).view(torch.uint8))


def data_offsets(path):
    """Where the data of each storage begins in the file."""
    with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
        for info in archive.infolist():
            if "/data/" in info.filename:
                file.seek(info.header_offset + 26)
                name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
                yield info.header_offset + 30 + name + extra


def check(program, path, folder):
    copy = os.path.join(folder, "copy.pt")
    subprocess.run([program, path, copy], check=True)
    if zipfile.is_zipfile(path):
        original = torch.load(path, weights_only=True, map_location="cpu")
    else:
        original = load_file(path)
    wanted = fixtures.flatten(original)
    scalars = flatten_scalars(original) if zipfile.is_zipfile(path) else None
    for mapped in (False, True):
        loaded = torch.load(copy, weights_only=True, mmap=mapped)
        tensors = loaded["state_dict"]
        assert list(tensors) == list(wanted) if scalars is not None else set(tensors) == set(wanted), "other names"
        for name, tensor in tensors.items():
            assert tensor.is_contiguous() and same(tensor, wanted[name]), name
        assert scalars is None or loaded["scalars"] == scalars, "other scalars"
    with zipfile.ZipFile(copy) as archive:
        assert archive.testzip() is None, "checksums"
    assert all(offset % 64 == 0 for offset in data_offsets(copy)), "alignment"
    print(f"{path}: {len(wanted)} tensors, {len(scalars or {})} scalars: equal")
    os.unlink(copy)


def main():
    program = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        made = {
            "types": {k: v for k, v in fixtures.types().items() if v.dtype in WRITTEN},
            "strides": fixtures.strides(),
            "checkpoint": fixtures.checkpoint(),
            "random": {"state_dict": random_tensors(500), "step": 3},
        }
        paths = []
        for name, value in made.items():
            paths.append(os.path.join(folder, name + ".pt"))
            torch.save(value, paths[-1])
        for path in paths + sys.argv[2:]:
            check(program, path, folder)


if __name__ == "__main__":
    main()
