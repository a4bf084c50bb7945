"""Reads what the program voco writes. See README.md beside this package."""

from .cache import Cache, CachedVolume, open_cache
from .embeddings import Embeddings, read_embeddings
from .encoder import LoadReport, load_encoder

__all__ = ["Cache", "CacheDataset", "CachedVolume", "Embeddings", "LoadReport", "load_encoder", "open_cache", "read_embeddings"]


def __getattr__(name: str) -> object:
    if name == "CacheDataset":  # needs PyTorch, which the rest does not
        from .dataset import CacheDataset

        return CacheDataset
    raise AttributeError(f"module 'voco' has no attribute {name!r}")
