"""Floor 3, optim: Adam with decoupled weight decay."""

from fastbp.optim.adam import Adam

__all__ = ["AdamW"]


class AdamW(Adam):
    """Adam whose weight decay does not pass through the moments.

    Formula: p <- p - lr * weight_decay * p, then Adam's update without weight decay
    Args, state and errors: as Adam; weight_decay is 0.01 by default.
    Source: Loshchilov and Hutter, 2017; torch.optim.AdamW

    >>> import fastbp
    >>> w = fastbp.nn.Parameter(fastbp.tensor([1.0]))
    >>> opt = fastbp.optim.AdamW([w], lr=0.5, weight_decay=0.1)
    >>> w.grad = fastbp.tensor([0.0])
    >>> opt.step()
    >>> [round(v, 4) for v in w.tolist()]
    [0.95]
    """

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, amsgrad=False, *,
                 maximize=False, foreach=None, capturable=False, differentiable=False, fused=None):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, foreach=foreach, maximize=maximize,
                         capturable=capturable, differentiable=differentiable, fused=fused, decoupled_weight_decay=True)

    def __setstate__(self, state):
        super().__setstate__(state)
        for group in self.param_groups:
            group["decoupled_weight_decay"] = True
