"""Floor 0: the documentation of a row, in words.

What a row's signature, kind and rules say is said here once for all of them: what its arguments are, what comes back.  The
meaning of an argument is looked up by its name, since PyTorch's names mean the same wherever they stand; a row of its own
meaning says so in `doc`.  tests/test_docs.py holds the sentences about results against what the samples return.
"""

__all__ = ["documentation"]

TYPES = {"Tensor": "Tensor", "Tensor[]": "sequence of Tensors", "int": "int", "float": "number", "bool": "bool", "str": "str",
         "Scalar": "number", "float[]": "numbers", "int[]": "int or ints", "int[]*": "ints", "dtype": "dtype", "object": "object",
         "Generator": "Generator"}

# what names of arguments mean, wherever they stand
MEANINGS = {name: meaning for line in """
    A: [..., m, n]
    accumulate: add where positions repeat
    align_corners: the corners' centres stay where they are
    alpha: factor
    anchor: [N, D]
    antialias: smooth before shrinking
    append: joined behind along dim
    assume_unique, compute_mode: taken and ignored
    atol: absolute tolerance
    attn_mask: [..., L, S]: bool, true where attended, or added
    aweights: weight of each observation
    axis, axis0, axis1: dimension
    B: [..., m, k]
    batch1: [b, n, m]
    batch2: [b, m, p]
    batch_first: the batch is the first dimension
    batch_sizes: int64, how many sequences have this step
    beta: factor of the input
    bias: one for each output
    bidirectional: a second run from the end
    bins: number of bins
    blank: index of the blank label
    boundaries: vector in ascending order
    ceil_mode: round the output's size up
    check_errors: raise where the decomposition fails
    col: columns
    condition, mask: bool
    correction: subtracted from the number of elements
    count: number of trials
    count_include_pad: padding counts in the mean
    delta: where the square ends
    density: of the total count and bin widths
    descending: from large to small
    destination: where dimensions go
    diagonal: 0: the main one; positive: above it
    dilation: distance between a window's elements
    dim, dim0, dim1, dim2: dimension, a negative one from the end
    dims: dimensions, negative ones from the end
    distance_function: of two tensors
    divisor_override: instead of the number of elements
    downscale_factor, upscale_factor: factor of the size
    dropout: between layers, probability
    dropout_p: probability of leaving out
    dtype: converted to it first
    dx: distance of the points
    edge_order: 1 or 2: order at the edges
    elements: what is looked for
    enable_gqa: groups of queries share a key
    end: last position
    eps: added so that nothing is divided by 0
    equation: as in NumPy's einsum
    exponent, other, tensor1, tensor2: broadcasts with the first
    full: constant terms too
    full_matrices: all columns of U and V, not only those needed
    fweights: how often each observation counts, int64
    generator: where random numbers come from
    groups: blocks of channels that do not see each other
    hard: one-hot, the gradient that of the soft result
    has_biases: each layer has two vectors of bias
    hermitian: symmetric: only one triangle is read
    hx: initial state
    ignore_index: target that counts for nothing
    include_last_offset: the last offset is the end
    include_self: the input's own value takes part
    increasing: powers from the left
    index, indices: int64 positions
    indexing: 'ij' or 'xy'
    indices_or_sections: number of parts, or where to cut
    input_lengths: of each sequence
    interpolation: 'linear', 'lower', 'higher', 'nearest' or 'midpoint'
    invert: the opposite answer
    is_causal: position i sees positions up to i
    k: how many, or which
    keepdim: keep what was reduced as size 1
    kernel_size: size of the window
    key: [..., S, E]
    L: [..., n, n], a triangle
    label_smoothing: share of the uniform target
    lambd: half the width of the flat part
    largest: the largest, not the smallest
    left: A stands at the left, A X = B
    lengths: int64, one for each sequence
    log_input: the input is a logarithm
    log_probs: [T, N, C], logarithms
    log_target: the target is a logarithm
    lower: lower bound
    LU, LU_data: [..., m, n], as lu_factor returns it
    LU_pivots: [..., min(m, n)] of int32
    margin: distance that is asked for
    mat, mat1: [n, m]
    mat2: [m, p]
    matrices: [n, m], [m, p], ...
    max: upper limit, None for none
    max_norm: largest norm of a row
    max_val: upper limit
    maxnorm: largest norm left alone
    min: lower limit, None for none
    min_val: lower limit
    minlength: smallest length of the result
    mode: how values are combined or found
    momentum: weight of the new running value
    n: whole number
    N: number of columns
    nan: instead of NaN
    negative: [N, D], to be far
    negative_slope: slope below 0
    neginf: instead of -inf
    norm: 'backward', 'forward' or 'ortho'
    normalized_shape: the last dimensions, which are normalised
    num_classes: number of classes, -1: the largest plus one
    num_groups: groups of channels
    num_heads: heads of attention
    num_layers: layers, one above the other
    offset: 0: the main diagonal; positive: above it
    offsets: where each bag begins
    ord: order of the norm
    out_int32: int32 positions
    output_padding: added to one side of the output
    output_size: size of the output
    p: order of the norm, or a probability
    pad: two sizes for each dimension, the last one first
    padding: zeros or least values around the input
    padding_idx: row without a gradient
    padding_side: 'right' or 'left'
    padding_value: what fills the gaps
    params: weights and biases, layer by layer
    per_sample_weights: factors of the rows
    pivot: rows may be exchanged
    pivots: [..., n] of int32
    pos_weight: weight of positive targets
    posinf: instead of inf
    positive: [N, D], to be near
    prepend: joined in front along dim
    prob: probability
    q: quantile in [0, 1]
    query: [..., L, E]
    r: length of a combination
    range: (lowest, highest)
    rcond: relative cutoff of singular values
    reduce, size_average: PyTorch's old way to say reduction
    reduction: 'mean', 'sum' or 'none'
    repeats: how often
    return_counts: how often each is there, too
    return_inverse: where each element went, too
    right: behind equal values, not before them
    row: rows
    rtol: relative tolerance
    running_mean, running_var: updated in training
    scale: factor of the products, None: 1 / sqrt(E)
    scale_factor: ratio of output to input
    scale_grad_by_freq: gradient divided by how often a row is read
    sections: number of parts
    sequences: tensors of different lengths
    shape, size: ints
    shifts: how far
    side: 'left' or 'right'
    some: only the columns needed
    sorted: in order
    sorted_sequence: in ascending order along the last
    sorter: int64 positions that sort
    source, src, values: what is written or added
    spacing: distance of the points, or where they are
    sparse: gradient of rows that were read
    split_size: size of a part
    split_sizes: sizes of the parts
    stable: equal elements stay in their order
    start: first position
    step: distance
    storage_offset: position of the first element
    stride: distance between windows
    swap: the smaller of two distances to the negative
    target: what is wanted
    target_lengths: of each target
    targets: int64 labels
    tau: temperature
    tensor: any
    tensors: sequence
    test_elements: where it is looked for
    threshold: where the branch changes
    tol: cutoff of singular values
    total_length: of the padded result
    train: dropout is drawn
    training: as in training; else as in evaluation
    transpose: solve with the transpose
    unbiased: False: correction 0
    unitriangular: ones on the diagonal, not read
    unpack_data: compute P, L and U
    unpack_pivots: compute P
    UPLO: 'L' or 'U': the triangle that is read
    upper: the upper triangle
    value: number or 0-d tensor
    var: variances, positive
    vec, vec2: [m]
    vec1: [n]
    weight: factors
    weights: of the elements
    with_replacement: elements may repeat
    x: where the points are, or the first operand
    zero_infinity: infinite losses count as 0
""".strip().splitlines() for names, _, meaning in [line.strip().partition(": ")] for name in names.split(", ")}

# rows whose result is no new tensor
VIEW = "Returns a view: nothing is copied, and writes show in both."
MAYBE = "Returns a view where strides allow it, else a copy."
VIEWS = "Returns a tuple of views."
NAMED = {
    "aminmax": "min, max", "frexp": "mantissa, exponent", "histogram": "hist, bin_edges", "linalg_inv_ex": "inverse, info",
    "linalg_solve_ex": "result, info", "triangular_solve": "solution, cloned_coefficient", "linalg_cholesky_ex": "L, info",
    "linalg_lu_factor": "LU, pivots", "linalg_lu_factor_ex": "LU, pivots, info", "linalg_lu": "P, L, U", "lu_unpack": "P, L, U",
    "linalg_slogdet": "sign, logabsdet", "slogdet": "sign, logabsdet", "linalg_qr": "Q, R", "qr": "Q, R",
    "linalg_eigh": "eigenvalues, eigenvectors", "linalg_svd": "U, S, Vh", "svd": "U, S, V",
    "linalg_lstsq": "solution, residuals, rank, singular_values",
    **dict.fromkeys(("cummax", "cummin", "sort", "topk", "kthvalue", "mode"), "values, indices"),
}
RESULTS = {
    **dict.fromkeys("as_strided permute expand diagonal swapaxes swapdims moveaxis adjoint linalg_diagonal".split(), VIEW),
    **dict.fromkeys("reshape ravel".split(), MAYBE),
    **dict.fromkeys("tensor_split hsplit vsplit dsplit split_with_sizes".split(), VIEWS),
    **{name: f"Returns a named tuple ({fields})." for name, fields in NAMED.items()},
    **dict.fromkeys(("median", "nanmedian"), "Returns a new tensor, or with dim a named tuple (values, indices)."),
    **dict.fromkeys(("atleast_1d", "atleast_2d", "atleast_3d"), "Returns a view or the input; of several tensors a tuple."),
    **dict.fromkeys(("unique", "unique_consecutive"), "Returns the values, or a tuple of them and of what else was asked for."),
    "meshgrid": "Returns a tuple of views, one for each argument.",
    "gradient": "Returns a tuple of tensors, one for each dimension.",
    "unravel_index": "Returns a tuple of tensors, one for each dimension.",
    "std_mean": "Returns a tuple (std, mean).", "var_mean": "Returns a tuple (var, mean).",
    "sum_to_size": "Returns a new tensor, or the input where it has the size.", "positive": "Returns the input.",
    "feature_dropout": "Returns a new tensor, or the input where nothing is left out.",
    "linalg_matrix_power": "Returns a new tensor; the input's view for n = 1.",
    "lu": "Returns a tuple (LU, pivots), with get_infos a third one.",
    "max_pool1d_with_indices": "Returns a tuple (values, indices).",
    "multi_head_attention_forward": "Returns a tuple (output, weights or None).",
    **dict.fromkeys(("rnn_tanh", "rnn_relu", "gru"), "Returns a tuple (output, h_n)."),
    "lstm": "Returns a tuple (output, h_n, c_n).", "lstm_cell": "Returns a tuple (h, c).",
    "_pack_padded_sequence": "Returns a tuple (data, batch_sizes).", "_pad_packed_sequence": "Returns a tuple (padded, lengths).",
}
DTYPES = {"float": "Floating dtypes; integers become float32.", "number": "Any dtype.", "integer": "Integer and bool dtypes.",
          "rounding": "Any dtype; integers stay as they are."}


def argument(row, k):
    """One argument of a row, in a line."""
    a = row.arguments[k]
    number = row.kind == "pointwise" and a.is_tensor and len(row.tensors) > 1 and (
        row.numbers == "any" or (row.numbers == "second" and k))
    kind = TYPES[a.type] + (" or number" if number else "")
    if a.optional and a.default in (None, "None"):
        kind = kind.replace(" or ", ", ") + " or None"
    elif a.default not in (None, "None"):
        kind += f" = {a.default}"
    meaning = MEANINGS.get(a.name)
    return f"{a.name}: {kind}" + (f"{' ' if meaning[0] == '[' else '; '}{meaning}" if meaning else "")


def result(row):
    """What a row returns, in a sentence."""
    found = RESULTS.get(row.name)
    if found is not None:
        return found
    if row.kind == "pointwise":
        kind = "bool tensor" if row.result == "bool" else "tensor of the promoted dtype"
        shape = " and the shape that they broadcast to" if len(row.tensors) > 1 else ", of input's shape"
        return f"Returns a new {kind}{shape if row.result != 'bool' else shape.replace(' and the', ', of the')}."
    return "Returns a new tensor."


def documentation(row):
    """A row's documentation: what it is, arguments, dtypes, result, source."""
    lines = [row.doc or f"The operation {row.name}.", ""]
    lines += [argument(row, k) for k in range(len(row.arguments))]
    if row.arguments:
        lines.append("")
    lines.append(f"{DTYPES[row.types]}  {result(row)}" if row.kind == "pointwise" else result(row))
    if row.source:
        lines += ["", f"Source: {row.source}."]
    return "\n".join(lines)
