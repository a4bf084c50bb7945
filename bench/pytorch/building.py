"""The model made by choices, and the contexts that it runs in."""

from __future__ import annotations

import monai_alone  # noqa: F401, before all that imports MONAI
import torch
import torch._dynamo
from choices import Choices
from monai.networks.blocks.dynunet_block import UnetResBlock
from monai.networks.nets.swin_unetr import SwinTransformerBlock
from reference import VoCo
from rewritten import rewrite_attention, rewrite_rest
from safetensors.torch import load_file
from workload import Workload

AUTOCAST = {"float32": None, "tf32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def build_model(workload: Workload, choices: Choices, device: str = "cpu") -> VoCo:
    """With the workload's weights, ready to train."""
    model = VoCo(
        workload.feature_size, workload.projector, workload.patch_merging, choices.checkpointing,
        choices.crops_at_once or workload.all_crops,
    )  # fmt: skip
    missing, unexpected = model.load_state_dict(load_file(workload.weights), strict=False)
    if unexpected or any(not key.endswith("relative_position_index") for key in missing):
        raise ValueError(f"{workload.weights}: missing {missing}, unexpected {unexpected}")
    if choices.fused_attention:
        rewrite_attention(model)
    if choices.rewritten:
        rewrite_rest(model.backbone, workload.roi)
    model.to(device)
    if choices.channels_last:
        model.backbone.to(memory_format=torch.channels_last_3d)
    if choices.compiled:
        model.backbone.compile(dynamic=False, mode="max-autotune-no-cudagraphs" if choices.autotuned else None)
    if choices.compiled_blocks:
        compile_blocks(model.backbone)
    return model.train()


def compile_blocks(backbone: torch.nn.Module) -> None:
    """Each block by itself; those with the same shapes share what was compiled."""
    torch._dynamo.config.recompile_limit = 64  # shapes that one class meets
    for module in backbone.modules():
        if isinstance(module, SwinTransformerBlock | UnetResBlock):
            module.compile(dynamic=False)


def as_chosen(x: torch.Tensor, choices: Choices) -> torch.Tensor:
    return x.contiguous(memory_format=torch.channels_last_3d) if choices.channels_last else x


def autocast(precision: str, device: str = "cpu") -> torch.autocast:
    dtype = AUTOCAST[precision]
    return torch.autocast(device, dtype or torch.bfloat16, enabled=dtype is not None)
