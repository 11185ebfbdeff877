"""Floor 3: torch.hub, by name: fastbp downloads nothing."""

import os

__all__ = ["download_url_to_file", "get_dir", "load", "load_state_dict_from_url"]


def get_dir():
    """Where PyTorch keeps what it downloads: $TORCH_HOME/hub, or ~/.cache/torch/hub."""
    return os.path.join(os.environ.get("TORCH_HOME", os.path.join(os.path.expanduser("~"), ".cache", "torch")), "hub")


def _refuse(*args, **kwargs):
    """Raises RuntimeError: fastbp downloads nothing."""
    raise RuntimeError("torch.hub: fastbp downloads nothing; fetch the file yourself and read it with fastbp.load.")


load = load_state_dict_from_url = download_url_to_file = list = help = _refuse
