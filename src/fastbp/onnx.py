"""Floor 3: torch.onnx, by name."""

__all__ = ["export", "is_in_onnx_export"]


def export(*args, **kwargs):
    """Raises RuntimeError: fastbp has no exporter."""
    raise RuntimeError("torch.onnx.export: fastbp cannot write ONNX; save a state_dict with fastbp.save and export it elsewhere.")


def is_in_onnx_export():
    """False."""
    return False
