"""What can be chosen about a PyTorch step without a change to what it computes, and the model made by such choices."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import torch
from monai.networks.nets.swin_unetr import WindowAttention
from reference import VoCo
from safetensors.torch import load_file
from torch import nn
from workload import Workload

AUTOCAST = {"float32": None, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Choices:
    checkpointing: str = "none"  # what passes forward twice: none, blocks, backbone (voco_reference.CHECKPOINTING)
    crops_at_once: int = 0  # through the backbone; 0: all
    channels_last: bool = False  # memory format of images and convolutions
    fused_attention: bool = False  # torch.nn.functional.scaled_dot_product_attention in place of MONAI's own
    compiled: bool = False  # torch.compile of the backbone

    def __str__(self) -> str:
        words = {"none": "no checkpointing", "blocks": "Swin blocks checkpointed", "backbone": "backbone checkpointed"}
        parts = [words[self.checkpointing], f"{self.crops_at_once} crops at once" if self.crops_at_once else "all crops at once"]
        parts += ["channels last"] * self.channels_last + ["scaled_dot_product_attention"] * self.fused_attention
        return ", ".join(parts + ["torch.compile"] * self.compiled).replace("1 crops", "1 crop")

    def as_dict(self) -> dict:
        return asdict(self)


# As the published code runs; it has no choice of attention or memory format.
PUBLISHED = Choices(checkpointing="blocks")

ONE_CROP = Choices(crops_at_once=1)
SMALLEST = replace(ONE_CROP, checkpointing="backbone")  # in memory
# Tried in one process, alternately. What saves memory is there for machines that have too little for the others.
EAGER = (
    Choices(),
    ONE_CROP,
    replace(ONE_CROP, channels_last=True),
    replace(ONE_CROP, fused_attention=True),
    replace(ONE_CROP, channels_last=True, fused_attention=True),
    replace(ONE_CROP, checkpointing="blocks"),
    SMALLEST,
)
# In a process of their own, each with a time limit: compilation takes minutes, and may fail.
COMPILED = (replace(ONE_CROP, compiled=True), replace(ONE_CROP, compiled=True, fused_attention=True))


class FusedWindowAttention(WindowAttention):
    """MONAI's attention with PyTorch's fused one; position bias and the mask of shifted windows are its additive mask.

    MONAI 1.6 has this, too (use_flash_attention), but only where no gradient is wanted."""

    def forward(self, x, mask):
        b, n, c = x.shape
        heads = self.num_heads
        q, k, v = self.qkv(x).reshape(b, n, 3, heads, c // heads).permute(2, 0, 3, 1, 4)
        table, index = self.relative_position_bias_table, self.relative_position_index[:n, :n]
        bias = table[index.reshape(-1)].reshape(n, n, heads).permute(2, 0, 1)[None]
        if mask is not None:  # [windows, n, n]; crops are the slower axis of the batch
            windows = mask.shape[0]
            bias = (bias + mask[:, None]).repeat(b // windows, 1, 1, 1)
        x = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), scale=self.scale)
        return self.proj(x.transpose(1, 2).reshape(b, n, c))


def build_model(workload: Workload, choices: Choices) -> VoCo:
    """With the workload's weights, ready to train."""
    model = VoCo(
        workload.feature_size, workload.projector, workload.patch_merging, choices.checkpointing,
        choices.crops_at_once or workload.all_crops,
    )  # fmt: skip
    missing, unexpected = model.load_state_dict(load_file(workload.weights), strict=False)
    if unexpected or any(not key.endswith("relative_position_index") for key in missing):
        raise ValueError(f"{workload.weights}: missing {missing}, unexpected {unexpected}")
    for module in model.modules():
        if choices.fused_attention and isinstance(module, WindowAttention):
            module.__class__ = FusedWindowAttention  # same parameters, another forward
    if choices.channels_last:
        model.backbone.to(memory_format=torch.channels_last_3d)
    if choices.compiled:
        model.backbone.compile(dynamic=False)
    return model.train()


def as_chosen(x: torch.Tensor, choices: Choices) -> torch.Tensor:
    return x.contiguous(memory_format=torch.channels_last_3d) if choices.channels_last else x


def autocast(precision: str) -> torch.autocast:
    dtype = AUTOCAST[precision]
    return torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None)
