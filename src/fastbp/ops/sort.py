"""Floor 0: order statistics and sorting: sort, topk, kthvalue, median, mode, quantile, unique, searchsorted."""
