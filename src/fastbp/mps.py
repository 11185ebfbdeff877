"""Floor 3: torch.mps: as absent as torch.xpu, whose names these are."""

from fastbp.xpu import device_count, empty_cache, is_available, manual_seed, seed, synchronize

__all__ = ["device_count", "empty_cache", "is_available", "manual_seed", "seed", "synchronize"]
