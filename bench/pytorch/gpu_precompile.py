"""A process that compiles one setting of gpu_plan.py, forward and backward, into the cache on disk, and takes no step: compiling
takes minutes of one core, in which the GPU can measure other settings."""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import torch
import torch._functorch.config
from building import as_chosen, autocast, build_model
from gpu_plan import PLAN
from reference import model_input
from safetensors.torch import load_file
from torch._inductor.output_code import CompiledFxGraph
from workload import read_workload


class Compiled(Exception):
    pass


def _stop(*_: object) -> None:
    raise Compiled


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("folder", type=Path, help="of a workload")
    parser.add_argument("--name", required=True, help="of the setting")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")  # MONAI announces coming changes
    workload = read_workload(arguments.recipe, arguments.folder)
    setting = next(setting for setting in PLAN if setting.name == arguments.name)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = setting.tf32
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch._functorch.config.force_non_lazy_backward_lowering = True
    CompiledFxGraph.__call__ = _stop  # when forward and backward are there
    model = build_model(workload, setting.choices, arguments.device)
    x = as_chosen(model_input(load_file(workload.batch)).to(arguments.device), setting.choices)
    try:
        with autocast(setting.precision, arguments.device):
            model(x)
    except Compiled:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
