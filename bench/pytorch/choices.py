"""What can be chosen about a PyTorch step without a change to what it computes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace


@dataclass(frozen=True)
class Choices:
    checkpointing: str = "none"  # what passes forward twice: none, blocks, backbone (voco_reference.CHECKPOINTING)
    crops_at_once: int = 0  # through the backbone; 0: all
    channels_last: bool = False  # memory format of images and convolutions
    fused_attention: bool = False  # torch.nn.functional.scaled_dot_product_attention in place of MONAI's own
    rewritten: bool = False  # the rest of MONAI's modules, too (rewritten.py)
    compiled: bool = False  # torch.compile of the backbone
    compiled_blocks: bool = False  # of each of its blocks instead: compiles in a fraction of the time
    autotuned: bool = False  # its mode max-autotune, without graphs, rather than default

    def __str__(self) -> str:
        words = {"none": "no checkpointing", "blocks": "Swin blocks checkpointed", "backbone": "backbone checkpointed"}
        crops = {0: "all crops", 1: "1 crop"}.get(self.crops_at_once, f"{self.crops_at_once} crops")
        parts = [words[self.checkpointing], f"{crops} at once"]
        parts += ["channels last"] * self.channels_last + ["scaled_dot_product_attention"] * self.fused_attention
        parts += ["modules rewritten"] * self.rewritten + ["torch.compile"] * self.compiled
        parts += ["torch.compile of each block"] * self.compiled_blocks + ["max-autotune"] * self.autotuned
        return ", ".join(parts)

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
