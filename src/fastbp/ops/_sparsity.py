"""Floor 0: which results of a row depend on which elements of its arguments, where that is less than all on all.

Pointwise rows need no word: element on element, broadcast.  A row that is named nowhere is dense: every element of the
result depends on every element of the argument.  Read when a sparsity pattern is asked for.
"""

# Linear maps in which an element of the argument goes to elements of its own, or an element of the result comes from one
# element: their index maps are read off by probing (reshape, slices, gathers, sums).
MAPS = frozenset("""
    alias as_strided bordered cast cat clone copy_values diag_embed diagonal embedding expand flip gather index_add index_copy
    index_select mean permute put_flat reshape rolled scatter_add scatter_src slice_view sum sum_to take_flat unbordered
    view_write windows zeros_around
""".split())

# The argument's shape, element on element, without broadcasting.
SAME = frozenset(["dropout_mask"])

# Rows along a dimension: the position of `dim` among the arguments.  Elements of other rows do not meet.
ALONG = {"amax": 1, "amin": 1, "cumprod": 1, "cumsum": 1, "linear_scan": 2, "log_softmax": 1, "log_softmax_backward": 2,
         "logcumsumexp": 1, "logsumexp": 1, "prod": 1, "softmax": 1, "softmax_backward": 2, "sum_abs": 1, "sum_squares": 1,
         "var": 1}

# Rows over the last dimension.
LAST = frozenset(["layer_norm_rows", "rms_norm_rows"])
