"""Floor 3, utils: torch.utils.tensorboard: the writer is tensorboardX's, which must be installed and writes the same files."""

__all__: list = []


def __getattr__(name):
    if name != "SummaryWriter":
        raise AttributeError(f"module 'fastbp.utils.tensorboard' has no attribute {name!r}")
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise ImportError("fastbp.utils.tensorboard needs tensorboardX, which writes TensorBoard's event files: "
                          "pip install tensorboardX") from None
    return SummaryWriter
