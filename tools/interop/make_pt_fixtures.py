"""Makes the .pt files of tests/formats/data with PyTorch, and beside each the tensors that it holds as safetensors.

    python tools/interop/make_pt_fixtures.py tests/formats/data

Needs PyTorch (2.4 or later) and safetensors. The tests compare what voco reads of NAME.pt with NAME.expected.safetensors.
"""
import collections
import os
import sys
import zipfile

import torch
from safetensors.torch import save_file


def flatten(value, name=""):
    """The tensors of nested dicts, lists and tuples, under the names that voco gives them."""
    if isinstance(value, torch.Tensor):
        return {name: value.detach().clone(memory_format=torch.contiguous_format).contiguous()}
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        return {}
    found = {}
    for key, item in items:
        found.update(flatten(item, f"{name}.{key}" if name else str(key)))
    return found


def save(folder, name, value):
    torch.save(value, os.path.join(folder, name + ".pt"))
    save_file(flatten(value), os.path.join(folder, name + ".expected.safetensors"))


def types():
    whole = torch.arange(-7, 8)
    tensors = {str(t)[6:]: (whole * 3).to(t) for t in (torch.int64, torch.int32, torch.int16, torch.int8)}
    tensors.update({str(t)[6:]: (whole.double() / 3).to(t) for t in (torch.float64, torch.float32, torch.float16, torch.bfloat16)})
    tensors["uint8"] = (whole + 100).to(torch.uint8)
    tensors["bool"] = whole % 3 == 0
    tensors.update({str(t)[6:]: (whole + 100).to(t) for t in (torch.uint16, torch.uint32, torch.uint64)})
    tensors.update({str(t)[6:]: whole.float().to(t) for t in (torch.float8_e5m2, torch.float8_e4m3fn)})
    return tensors


def strides():
    base = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).reshape(2, 3, 4, 5)
    return {
        "whole": base,
        "permuted": base.permute(3, 0, 2, 1),
        "offset": base[1],
        "steps": base[:, ::2, 1::2, 1],
        "single": base[1, 2, 3, 4],
        "empty": base[:0],
        "expanded": torch.arange(3, dtype=torch.int16)[:, None].expand(3, 5),
        "one_row": torch.arange(6)[None].expand(1, 6),
        "overlapping": torch.arange(7, dtype=torch.float64).as_strided((3, 4), (1, 1), 1),
        "channels_last": torch.arange(2 * 3 * 2 * 2, dtype=torch.float16).reshape(2, 3, 2, 2).contiguous(memory_format=torch.channels_last),
        "bytes": torch.arange(24, dtype=torch.uint8).reshape(4, 6).T,
        "eight_axes": torch.arange(2 ** 8, dtype=torch.int32).reshape((2,) * 8).flip(0).permute(7, 0, 6, 1, 5, 2, 4, 3),
    }


def checkpoint():
    torch.manual_seed(0)
    model = torch.nn.Sequential(collections.OrderedDict(conv=torch.nn.Conv3d(1, 2, 2), norm=torch.nn.BatchNorm3d(2)))
    model.tied = model.conv.weight
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, amsgrad=True)
    model(torch.ones(2, 1, 3, 3, 3)).square().mean().backward()
    optimiser.step()
    return {
        "state_dict": model.state_dict(),
        "optimizer": optimiser.state_dict(),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "epoch": 3,
        "negative": -70000,
        "wide": -(2 ** 40),
        "seed": 2 ** 64 - 1,
        "best": 0.1,
        "nothing": None,
        "amp": True,
        "name": "Wägung",
        "size": torch.Size([96, 96, 64]),
        "dtype": torch.float32,
        "lists": [[1, (2.5, False)], [], {}, (4, 5, 6, 7)],
    }


def repack(folder, source, target, method, change=lambda name, data: data):
    """The same archive as another zip program writes it, below the folder "archive"."""
    with zipfile.ZipFile(os.path.join(folder, source)) as old, zipfile.ZipFile(os.path.join(folder, target), "w", method) as new:
        for name in old.namelist():
            base = name.split("/", 1)[1]
            if not base.startswith("."):
                new.writestr(zipfile.ZipInfo("archive/" + base), change(base, old.read(name)), compress_type=method)


def to_cuda(name, data):
    if name != "data.pkl":
        return data
    return data.replace(b"X\3\0\0\0cpu", b"X\6\0\0\0cuda:0")


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))

    def forward(self, x):
        return x * self.weight


def main():
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    save(folder, "types", types())
    save(folder, "strides", strides())
    save(folder, "checkpoint", checkpoint())
    repack(folder, "strides.pt", "strides_deflated.pt", zipfile.ZIP_DEFLATED)
    repack(folder, "strides.pt", "strides_cuda.pt", zipfile.ZIP_STORED, to_cuda)
    torch.serialization.set_crc32_options(False)
    torch.save(strides(), os.path.join(folder, "strides_without_checksums.pt"))
    torch.serialization.set_crc32_options(True)
    torch.save(torch.arange(6.0).reshape(2, 3), os.path.join(folder, "bare_tensor.pt"))
    # What is refused.
    torch.save({"a": torch.ones(2)}, os.path.join(folder, "legacy.pt"), _use_new_zipfile_serialization=False)
    torch.save({"a": torch.ones(2)}, os.path.join(folder, "protocol_4.pt"), pickle_protocol=4)
    torch.save({"a": torch.ones(2, dtype=torch.complex64)}, os.path.join(folder, "complex.pt"))
    torch.save({"a": torch.ones(2, dtype=torch.complex64).conj().imag}, os.path.join(folder, "negated.pt"))
    torch.save({"model": torch.nn.Linear(1, 1)}, os.path.join(folder, "module.pt"))
    torch.jit.script(Net()).save(os.path.join(folder, "torchscript.pt"))


if __name__ == "__main__":
    main()
