"""What is measured of PyTorch on a GPU, the most important first."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from choices import PUBLISHED, Choices


@dataclass(frozen=True)
class Setting:
    name: str
    choices: Choices
    precision: str = "bf16"
    fused_adamw: bool = True
    tf32: bool = True  # for what is left in float32
    search: bool = True  # torch.backends.cudnn.benchmark
    read_loss: bool = False  # on the host, after every step, as the published code does
    best: bool = True  # may be called PyTorch's best
    steps: int = 7  # timed
    needs: float = 8  # seconds: not begun when less is left
    limit: float = 60  # seconds

    def as_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: dict) -> Setting:
        return cls(**plain | {"choices": Choices(**plain["choices"])})

    @property
    def options(self) -> str:
        words = ["fused AdamW"] * self.fused_adamw + ["TF32"] * self.tf32 + ["cudnn.benchmark"] * self.search
        words += ["GradScaler"] * (self.precision == "fp16") + ["loss read in every step"] * self.read_loss
        return ", ".join(words)


# The loss of both sides is compared in it. A volume at a time: its speed is no comparison.
FLOAT32 = Setting(
    "float32", Choices(checkpointing="backbone", crops_at_once=11), "float32", tf32=False, search=False, best=False, steps=1,
    limit=45,
)  # fmt: skip
# bf16 stands where the published code has fp16; everything else as there.
AS_PUBLISHED = Setting(
    "as published", PUBLISHED, fused_adamw=False, tf32=False, read_loss=True, best=False, steps=5, limit=75
)  # fmt: skip
IN_FP16 = replace(AS_PUBLISHED, name="as published, fp16", precision="fp16")

_fused = Choices(fused_attention=True)
_best = Choices(channels_last=True, fused_attention=True, rewritten=True)
# voco's tf32: everything in float32, products of convolutions and linear layers (and here of attention) in TF32.
IN_TF32 = Setting("TF32", _fused, precision="tf32", best=False, steps=3)
_compiled = {"needs": 25, "limit": 130}

# The compiled ones last: those of the whole backbone are compiled ahead while the others are measured.
PLAN = (
    FLOAT32,
    AS_PUBLISHED,
    Setting("plain", Choices()),
    Setting("fused attention", _fused),
    Setting("fused attention, channels last", replace(_fused, channels_last=True)),
    Setting("rewritten, channels last", _best),
    IN_FP16,
    IN_TF32,
    Setting("fused attention, blocks compiled", replace(_fused, compiled_blocks=True), **_compiled),
    Setting("rewritten, channels last, compiled", replace(_best, compiled=True), **_compiled),
    Setting("rewritten, channels last, own attention, compiled", replace(_best, fused_attention=False, compiled=True), **_compiled),
    Setting("fused attention, compiled", replace(_fused, compiled=True), **_compiled),
)


def in_less_memory(setting: Setting) -> Setting:
    """What is tried where memory ran out."""
    choices = replace(setting.choices, checkpointing="backbone", crops_at_once=11)
    return replace(setting, name=f"{setting.name}, checkpointed", choices=choices)


def autotuned(setting: Setting) -> Setting:
    choices = replace(setting.choices, autotuned=True)
    return replace(setting, name=f"{setting.name}, autotuned", choices=choices, needs=60, limit=240)
