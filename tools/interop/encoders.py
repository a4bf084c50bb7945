"""SwinUNETR of the installed MONAI, of either generation: drawn weights, what its encoder gives, strict loading."""
import inspect
import warnings

import monai
import nibabel
import numpy
import torch

warnings.simplefilter("ignore", FutureWarning)  # MONAI's own, of its other versions
from monai.networks.nets import SwinUNETR  # noqa: E402
from voco.encoder import patch_merging_of  # noqa: E402

PARTS = ("swinViT.", "encoder1.", "encoder2.", "encoder3.", "encoder4.", "encoder10.")
MERGINGS = ("merging", "mergingv2")
# Which orders of patch merging give the same function, once the weights are arranged for it.
REACHABLE = {"legacy": ("legacy",), "fixed": ("fixed", "v2"), "v2": ("fixed", "v2")}
CROP = 64
VERSION = monai.__version__


def swin_unetr(feature_size, merging):
    """merging: of MERGINGS. MONAI up to 1.4 wants to know the size of images."""
    size = {"img_size": (CROP, CROP, CROP)} if "img_size" in inspect.signature(SwinUNETR).parameters else {}
    return SwinUNETR(in_channels=1, out_channels=2, feature_size=feature_size, use_v2=True, downsample=merging, **size).eval()


def drawn(feature_size, merging, seed):
    """Norms and position biases are drawn, too, so that a block in the wrong place shows."""
    torch.manual_seed(seed)
    model = swin_unetr(feature_size, merging)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1 or "bias_table" in name:
                parameter.add_(torch.rand_like(parameter) - 0.5)
    return model


def encoder_of(model):
    return {name: tensor for name, tensor in model.state_dict().items() if name.startswith(PARTS)}


def load_strictly(state, feature_size, merging):
    """Nothing unexpected, nothing missing but the decoder."""
    model = swin_unetr(feature_size, merging)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected, unexpected
    assert all(name.startswith(("decoder", "out.")) for name in missing), missing
    return model


@torch.no_grad()
def feature_maps(model, crop):
    """The five maps (channels, x, y, z) of a crop (x, y, z)."""
    x = torch.as_tensor(crop)[None, None]
    hidden = model.swinViT(x, model.normalize)
    maps = (model.encoder1(x), model.encoder2(hidden[0]), model.encoder3(hidden[1]), model.encoder4(hidden[2]), model.encoder10(hidden[4]))
    return [features[0].numpy() for features in maps]


def embedding(maps):
    return numpy.concatenate([features.mean(axis=(1, 2, 3)) for features in maps])


def write_crop(path, seed):
    """Smooth parts and noise, as NIfTI; returns the voxels."""
    generator = numpy.random.default_rng(seed)
    coarse = numpy.kron(generator.random([CROP // 16] * 3), numpy.ones((16, 16, 16)))
    crop = (0.7 * coarse + 0.3 * generator.random([CROP] * 3)).astype(numpy.float32)
    nibabel.save(nibabel.Nifti1Image(crop, numpy.eye(4)), path)
    return crop


def distance(found, expected):
    """Relative, L2."""
    assert found.shape == expected.shape, (found.shape, expected.shape)
    return float(numpy.linalg.norm(found.astype(numpy.float64) - expected) / numpy.linalg.norm(expected.astype(numpy.float64)))


__all__ = [
    "CROP", "MERGINGS", "PARTS", "REACHABLE", "VERSION", "distance", "drawn", "embedding", "encoder_of", "feature_maps", "load_strictly",
    "patch_merging_of", "swin_unetr", "write_crop",
]  # fmt: skip
