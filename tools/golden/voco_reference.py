"""VoCo on PyTorch and MONAI: the model, the loss and two optimiser steps, as an oracle for the C program.

The layers are MONAI's own; what is written here is how VoCo joins them, its loss and its update order. Nothing here is
fast, and nothing is meant to be.
"""

import torch
import torch.nn.functional as F
from monai.networks.blocks import UnetrBasicBlock
from monai.networks.nets.swin_unetr import PatchMerging, PatchMergingV2, SwinTransformer
from torch import nn
from torch.utils.checkpoint import checkpoint

EMA_DECAY = 0.9
COSINE_FLOOR = 1e-8
LOG_FLOOR = 1e-6
CROPS_AT_ONCE = 6  # crops are independent in the backbone
# What passes forward again on the way back, so that memory need not hold its activations: nothing; each Swin block, as the
# published code has it; or the whole backbone, a few crops at a time, which bounds the memory.
CHECKPOINTING = ("none", "blocks", "backbone")


class LegacyMerging(PatchMergingV2):
    """The order of MONAI <= 1.4: two neighbours are read twice, (1, 1, 0) and (0, 1, 1) never."""

    ORDER = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 0), (0, 0, 1), (1, 1, 1))

    def forward(self, x):
        d, h, w = x.shape[1:4]
        x = F.pad(x, (0, 0, 0, w % 2, 0, h % 2, 0, d % 2))
        neighbours = [x[:, i::2, j::2, k::2] for i, j, k in self.ORDER]
        return self.reduction(self.norm(torch.cat(neighbours, -1)))


PATCH_MERGING = {"legacy": LegacyMerging, "fixed": PatchMerging, "v2": PatchMergingV2}


def residual_block(channels_in, channels_out):
    return UnetrBasicBlock(3, channels_in, channels_out, kernel_size=3, stride=1, norm_name="instance", res_block=True)


class Backbone(nn.Module):
    """[n, 1, R, R, R] -> embeddings [n, 24 C]."""

    def __init__(self, feature_size, patch_merging, checkpoint_blocks=False):
        super().__init__()
        c = feature_size
        self.swinViT = SwinTransformer(
            in_chans=1, embed_dim=c, window_size=(7, 7, 7), patch_size=(2, 2, 2), depths=(2, 2, 2, 2),
            num_heads=(3, 6, 12, 24), mlp_ratio=4.0, qkv_bias=True, use_v2=True, spatial_dims=3,
            downsample=PATCH_MERGING[patch_merging], use_checkpoint=checkpoint_blocks,
        )  # fmt: skip
        self.encoder1 = residual_block(1, c)
        self.encoder2 = residual_block(c, c)
        self.encoder3 = residual_block(2 * c, 2 * c)
        self.encoder4 = residual_block(4 * c, 4 * c)
        self.encoder10 = residual_block(16 * c, 16 * c)

    def forward(self, x):
        h0, h1, h2, _, h4 = self.swinViT(x, normalize=True)
        maps = (self.encoder1(x), self.encoder2(h0), self.encoder3(h1), self.encoder4(h2), self.encoder10(h4))
        return torch.cat([m.mean(dim=(2, 3, 4)) for m in maps], dim=1)


class Projector(nn.Module):
    """[N, E] -> [N, D]; the batch norms have no weights and always use the batch's own statistics."""

    def __init__(self, width_in, width):
        super().__init__()

        def normed(n):
            batch_norm = nn.BatchNorm1d(width, eps=1e-5, affine=False, track_running_stats=False)
            return nn.Sequential(nn.Linear(n, width), batch_norm, nn.ReLU())

        self.layer1 = normed(width_in)
        self.layer2 = normed(width)
        self.layer3 = nn.Sequential(nn.Linear(width, width))

    def forward(self, x):
        return self.layer3(self.layer2(self.layer1(x)))


class VoCo(nn.Module):
    def __init__(
        self, feature_size, projector, patch_merging, checkpointing="backbone", crops_at_once=CROPS_AT_ONCE
    ):
        super().__init__()
        if checkpointing not in CHECKPOINTING:
            raise ValueError(f"checkpointing is one of {', '.join(CHECKPOINTING)}, not {checkpointing}")
        self.checkpoint_backbone = checkpointing == "backbone"
        self.crops_at_once = crops_at_once
        self.backbone = Backbone(feature_size, patch_merging, checkpoint_blocks=checkpointing == "blocks")
        self.student = Projector(24 * feature_size, projector)
        self.teacher = Projector(24 * feature_size, projector).requires_grad_(False)

    @torch.no_grad()
    def move_teacher(self):
        for t, s in zip(self.teacher.parameters(), self.student.parameters()):
            t.copy_(EMA_DECAY * t + (1 - EMA_DECAY) * s)

    def embed(self, x):
        if self.checkpoint_backbone:
            return checkpoint(self.backbone, x, use_reentrant=False)
        return self.backbone(x)

    def forward(self, x):
        """Returns embeddings [N, E], student [N, D], teacher [N, D]; no drop, as the golden sets have none."""
        self.move_teacher()
        e = torch.cat([self.embed(part) for part in x.split(self.crops_at_once)])
        with torch.no_grad():
            teacher = self.teacher(e)
        return e, self.student(e), teacher


def similarity(a, b):
    """a [S, D], b [K, D] -> [S, K]."""
    return F.relu(F.cosine_similarity(a[:, None], b[None], dim=-1, eps=COSINE_FLOOR))


def position_entropy(y, s):
    absent = (y == 0).to(y.dtype)
    near = -(y * torch.log(1 - (y - s).abs() + LOG_FLOOR)).sum() / (y.sum() + LOG_FLOOR)
    far = -(absent * torch.log(1 - s + LOG_FLOOR)).sum() / (absent.sum() + LOG_FLOOR)
    return near + far


def base_overlap(q):
    a, b = torch.triu_indices(len(q), len(q), offset=1)
    return F.relu(F.cosine_similarity(q[a], q[b].detach(), dim=-1, eps=COSINE_FLOOR)).square().mean()


def voco_loss(student, teacher, labels):
    """labels [V, S, K]; returns [total, intra, inter, reg]."""
    volumes, crops, bases = labels.shape

    def by_volume(z):
        return z[: volumes * crops].view(volumes, crops, -1), z[volumes * crops :].view(volumes, bases, -1)

    x, q = by_volume(student)
    x_teacher, q_teacher = by_volume(teacher)
    terms = []
    for i in range(volumes):
        j = (i + 1) % volumes
        intra = position_entropy(labels[i], similarity(x[i], q_teacher[i]))
        inter = position_entropy(similarity(x_teacher[i], q_teacher[j]).detach(), similarity(x[i], q[j]))
        terms.append(torch.stack([intra, inter, base_overlap(q[i])]))
    terms = torch.stack(terms).mean(0)
    return torch.cat([terms.sum()[None], terms])


def sample(tensor):
    """What `paramsample` holds of a tensor; the positions are exact in float64 for every size in use."""
    n = tensor.numel()
    return tensor.flatten()[torch.linspace(0, n - 1, min(256, n), dtype=torch.float64).long()]


def trained(model):
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def model_input(batch, dtype=torch.float32):
    """All random crops, then all base crops: [N, 1, R, R, R]."""
    edge = batch["crops"].shape[-1]
    x = torch.cat([batch["crops"].reshape(-1, 1, edge, edge, edge), batch["bases"].reshape(-1, 1, edge, edge, edge)])
    return x.to(dtype) / 255 if x.dtype == torch.uint8 else x.to(dtype)


def optimizer_of(model, lr, weight_decay, **options):
    parameters = trained(model).values()
    return torch.optim.AdamW(
        parameters, lr=lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=weight_decay, amsgrad=True, **options
    )


def run(model, batch, lr, weight_decay, dtype=torch.float32, gradients=None, steps=2):
    """Trains `model` in place; returns the tensors of an expected file.

    gradients: what the optimiser is given at step 0 in place of the model's own gradients.
    """
    model.to(dtype).train()
    x = model_input(batch, dtype)
    labels = batch["labels"].to(dtype)
    parameters = trained(model)
    optimizer = optimizer_of(model, lr, weight_decay)
    out = {}
    for i in range(steps):
        e, student, teacher = model(x)
        loss = voco_loss(student, teacher, labels)
        optimizer.zero_grad()
        loss[0].backward()
        state = {"loss": loss, "embedding": e, "student": student, "teacher": teacher}
        out |= {f"step{i}/{key}": value.detach().clone() for key, value in state.items()}
        if i == 0:
            out |= {f"step0/grad/{name}": p.grad.clone() for name, p in parameters.items()}
            for name, p in parameters.items() if gradients else ():
                p.grad.copy_(gradients[f"step0/grad/{name}"])
        optimizer.step()
        out |= {f"step{i}/paramsample/{name}": sample(p.detach()).clone() for name, p in model.named_parameters()}
    return out
