"""Loading an encoder into MONAI's SwinUNETR."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

# Where each of the 8 gathered neighbours lies, as 4 d + 2 h + w, in the three orders there are: of MONAI up to 1.4 and of the
# published checkpoints, of MONAI since 1.5, and of its mergingv2.
ORDERS = {
    "legacy": (0, 4, 2, 1, 5, 2, 1, 7),
    "fixed": (0, 4, 2, 1, 6, 5, 3, 7),
    "v2": (0, 1, 2, 3, 4, 5, 6, 7),
}
PREFIXES = ("module.", "backbone.", "state_dict.", "model.")
PARTS = ("swinViT.", "encoder1.", "encoder2.", "encoder3.", "encoder4.", "encoder10.")


@dataclass
class LoadReport:
    """What came of loading, as names of the model's parameters and buffers."""

    loaded: list[str]
    missing: list[str]  # of the encoder, in the model but not in the file
    unexpected: list[str]  # in the file's encoder but not in the model
    not_encoder: list[str] = field(default_factory=list)  # of the model: the decoder, which stays as it was
    patch_merging: str = ""  # the model's order

    def __str__(self) -> str:
        words = f"{len(self.loaded)} loaded, {len(self.missing)} missing, {len(self.unexpected)} unexpected"
        return f"{words}; {len(self.not_encoder)} of the decoder left as they were; patch merging {self.patch_merging}"


def _read(path: Path) -> tuple[dict, dict]:
    """Tensors and metadata of a safetensors or .pt file."""
    with open(path, "rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"
    if not is_zip:
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            wanted = [key for key in file.keys() if not key.startswith(("optimizer.", "student.", "teacher."))]
            return {key: file.get_tensor(key) for key in wanted}, dict(file.metadata() or {})
    import torch

    content, about = torch.load(path, map_location="cpu", weights_only=True), {}
    while True:
        about |= content.get("voco", {})  # what voco convert says of the weights
        inner = [content[key] for key in ("state_dict", "model", "network_weights") if isinstance(content.get(key), dict)]
        if not inner:
            break
        content = inner[0]
    return {key: value for key, value in content.items() if isinstance(value, torch.Tensor)}, about


def _encoder_name(key: str) -> str | None:
    """The name in SwinUNETR; None where it is no part of the encoder."""
    stripped = True
    while stripped:
        stripped = False
        for prefix in PREFIXES:
            if key.startswith(prefix):
                key, stripped = key[len(prefix) :], True
    key = "swinViT." + key[len("swin_vit.") :] if key.startswith("swin_vit.") else key
    return key if key.startswith(PARTS) else None


def patch_merging_of(model) -> str:
    """The order in which a SwinUNETR gathers neighbours, found by letting it gather."""
    import torch
    from torch import nn

    probe = type(model.swinViT.layers1[0].downsample)(dim=1, spatial_dims=3)
    probe.norm, probe.reduction = nn.Identity(), nn.Identity()
    gathered = tuple(int(v) for v in probe(torch.arange(8.0).reshape(1, 2, 2, 2, 1)).flatten())
    for name, order in ORDERS.items():
        if gathered == order:
            return name
    raise ValueError(f"this MONAI's patch merging gathers {gathered}, an order that is not known")


def _reorder(weights: dict, given: str, wanted: str) -> None:
    """The same function with neighbours gathered in another order. Only where both read all eight."""
    places = [ORDERS[given].index(place) for place in ORDERS[wanted]]
    for key in [key for key in weights if ".downsample." in key]:
        tensor = weights[key]
        blocks = tensor.reshape(*tensor.shape[:-1], 8, tensor.shape[-1] // 8)
        weights[key] = blocks[..., places, :].reshape(tensor.shape).contiguous()


def load_encoder(path, model, patch_merging: str | None = None, strict: bool = True) -> LoadReport:
    """Loads the encoder of a checkpoint (of voco, the newest of a run's folder, the published ones, or converted ones) into a MONAI SwinUNETR, in place.

    patch_merging: 'legacy', 'fixed' or 'v2', the order that the weights were trained with, where the file does not say; what says
    nothing is taken for a published checkpoint, legacy. Weights of `fixed` and `v2` are rearranged for the model's own order; weights
    of `legacy`, or for it, cannot be, and are refused: they would load, and mean nothing. strict: missing or unexpected parts of the
    encoder, or other shapes, are errors, too."""
    path = Path(path)
    if path.is_dir():  # a run
        newest = sorted(path.glob("checkpoint-*.safetensors"))[-1:]
        if not newest:
            raise FileNotFoundError(f"{path}: no checkpoint in it")
        path = newest[0]
    tensors, about = _read(path)
    weights = {name: tensor for key, tensor in tensors.items() if (name := _encoder_name(key)) is not None}
    if not weights:
        raise ValueError(f"{path}: no encoder in it: no name has swinViT or encoder1")
    given, wanted = patch_merging or about.get("patch_merging", "legacy"), patch_merging_of(model)
    if given not in ORDERS:
        raise ValueError(f"{path}: patch merging {given!r} is none of {', '.join(ORDERS)}")
    if given != wanted:
        if "legacy" in (given, wanted):
            advice = {"legacy": "MONAI 1.4", "fixed": "MONAI 1.5 or later", "v2": 'SwinUNETR(downsample="mergingv2")'}[given]
            raise ValueError(f"{path}: trained with patch merging {given!r}, the model has {wanted!r}: use {advice}")
        _reorder(weights, given, wanted)
    own = model.state_dict()
    encoder = {name for name in own if name.startswith(PARTS)}
    buffers = {name for name in encoder if name.endswith("relative_position_index")}  # MONAI computes them
    report = LoadReport(
        loaded=sorted(encoder & set(weights)),
        missing=sorted(encoder - set(weights) - buffers),
        unexpected=sorted(set(weights) - encoder),
        not_encoder=sorted(set(own) - encoder),
        patch_merging=wanted,
    )
    reshaped = [name for name in report.loaded if own[name].shape != weights[name].shape]
    if reshaped:
        name = reshaped[0]
        shapes = f"{tuple(weights[name].shape)} in the file, {tuple(own[name].shape)} in the model"
        raise ValueError(f"{path}: {name} is {shapes}; are feature_size and in_channels those of the checkpoint?")
    if strict and (report.missing or report.unexpected):
        example = (report.missing + report.unexpected)[0]
        raise ValueError(f"{path}: {len(report.missing)} missing, {len(report.unexpected)} unexpected, such as {example}")
    model.load_state_dict({name: weights[name] for name in report.loaded}, strict=False)
    return report
