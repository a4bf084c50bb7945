"""The model, the loss and the optimiser of tools/golden, which the golden sets were made with."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "golden"))
from voco_reference import VoCo, model_input, optimizer_of, voco_loss  # noqa: E402

__all__ = ["VoCo", "model_input", "optimizer_of", "voco_loss"]
