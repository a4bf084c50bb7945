"""Loads MONAI without the many packages that it would load, where they are, and has no use for here: seconds of every start."""

import sys

_UNUSED = ("h5py", "pandas", "skimage", "tensorboard", "torchvision", "transformers")

_hidden = [name for name in _UNUSED if name not in sys.modules]
sys.modules.update(dict.fromkeys(_hidden))  # None: cannot be imported, which MONAI allows for
import monai.networks.nets.swin_unetr  # noqa: E402, F401

for _name in _hidden:
    del sys.modules[_name]
