"""Modules of MONAI's network, rewritten for speed: the same parameters and the same function, other operations.

A module is rewritten by giving it another class."""

from __future__ import annotations

import torch
from monai.networks.nets.swin_unetr import BasicLayer, SwinTransformer, WindowAttention, compute_mask, get_window_size
from torch import nn
from torch.nn import functional as F


class FusedWindowAttention(WindowAttention):
    """PyTorch's fused attention; position bias and the mask of shifted windows are its additive mask.

    MONAI 1.6 has this, too (use_flash_attention), but only where no gradient is wanted. The windows of a crop count as heads,
    so that one mask does for all crops."""

    def forward(self, x, mask):
        b, n, c = x.shape
        heads, windows = self.num_heads, 1 if mask is None else mask.shape[0]  # crops are the slower axis of the batch
        parts = self.qkv(x).reshape(b // windows, windows, n, 3, heads, c // heads).permute(3, 0, 1, 4, 2, 5)
        q, k, v = parts.flatten(2, 3)
        table, index = self.relative_position_bias_table, self.relative_position_index[:n, :n]
        bias = table[index.reshape(-1)].reshape(n, n, heads).permute(2, 0, 1)
        if mask is not None:  # [windows, n, n]
            bias = (bias + mask[:, None]).flatten(0, 1)
        bias = bias[None].to(q.dtype).contiguous()  # a compiler keeps the order of dimensions, which the fused kernels refuse
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=self.scale)
        return self.proj(x.unflatten(1, (windows, heads)).transpose(2, 3).reshape(b, n, c))


class WrittenOutNorm(nn.InstanceNorm3d):
    """As sums and products, which a compiler can fuse with what is beside them. PyTorch's own takes one memory format only."""

    def forward(self, x):
        wide = x.float()
        variance, mean = torch.var_mean(wide, dim=(2, 3, 4), correction=0, keepdim=True)
        return ((wide - mean) * torch.rsqrt(variance + self.eps)).to(x.dtype)


class LayerWithMask(BasicLayer):
    """MONAI makes the mask of shifted windows anew in every pass, of a hundred small operations."""

    def keep_mask(self, side: int) -> LayerWithMask:
        """side: tokens an axis."""
        window, shift = get_window_size((side,) * 3, self.window_size, self.shift_size)
        whole = [-(-side // w) * w for w in window]
        mask = compute_mask(whole, window, shift, "cpu") if any(shift) else None
        self.register_buffer("mask", mask, persistent=False)
        return self

    def forward(self, x):
        x = x.permute(0, 2, 3, 4, 1)
        for block in self.blocks:
            x = block(x, self.mask)
        if self.downsample is not None:
            x = self.downsample(x)
        return x.permute(0, 4, 1, 2, 3)


class SwinWithoutCopies(SwinTransformer):
    """MONAI copies the input of every stage into channels-first order."""

    def forward(self, x, normalize=True):
        x = self.patch_embed(x)
        out = [self.proj_out(x, normalize)]
        for stage in range(1, 5):
            x = getattr(self, f"layers{stage}c")[0](x)
            x = getattr(self, f"layers{stage}")[0](x)
            out.append(self.proj_out(x, normalize))
        return out


def rewrite_attention(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, WindowAttention):
            module.__class__ = FusedWindowAttention


def rewrite_rest(backbone: nn.Module, roi: int) -> None:
    """All but attention."""
    backbone.swinViT.__class__ = SwinWithoutCopies
    for stage in range(4):
        layer = getattr(backbone.swinViT, f"layers{stage + 1}")[0]
        layer.__class__ = LayerWithMask
        layer.keep_mask(-(-roi // 2 ** (stage + 1)))
    for module in backbone.modules():
        if isinstance(module, nn.InstanceNorm3d):
            module.__class__ = WrittenOutNorm
