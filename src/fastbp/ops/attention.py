"""Floor 0: attention.  Queries look at keys and mix values; `multi_head_attention_forward` puts projections around it."""

import math
import warnings

from ._declare import F, composed, fused

# ---- one attention --------------------------------------------------------------------------------------------------


def _attention_weights(query, key, mask, is_causal, scale):
    """softmax(query key^T scale + mask) over the keys; rows that may look at nothing are zero, and keys that a row may not look
    at have no part in its derivatives either, whatever their values are."""
    s = F.matmul(query * scale, key.mT)
    if is_causal:
        s = F.where(F.ones(s.shape[-2:], dtype=F.bool_).tril(), s, -math.inf)
    if mask is not None:
        s = F.where(mask, s, -math.inf) if mask.dtype == F.bool_ else s + mask
    if s.shape[-1] == 0:
        return s
    top = F.amax(s, -1, True).detach()
    e = F.exp(s - F.where(top == -math.inf, 0.0, top))
    total = e.sum(-1, True)
    return F.where(s == -math.inf, 0.0, e / F.where(total == 0, 1.0, total))


def _attention(query, key, value, mask, is_causal, scale, dropout, seed):
    w = _attention_weights(query, key, mask, is_causal, scale)
    if dropout:
        w = w * (F.attention_keep(seed, tuple(w.shape), dropout) != 0).to(w.dtype) * (1 / (1 - dropout))
    return F.matmul(w, value)


fused("attention(Tensor query, Tensor key, Tensor value, Tensor? mask, bool is_causal, float scale, float dropout, Tensor? seed)",
      ("attention", "attention_backward"), _attention, function=False, method=False,
      doc="softmax(query key^T scale + mask) value, for equal batch dimensions; the scores are never in memory at once.",
      source="Dao et al., 2022; Milakov and Gimelshein, 2018")


def _scaled_dot_product_attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, *, scale=None,
                                  enable_gqa=False):
    op, dtype = "scaled_dot_product_attention", query.dtype
    for name, t in (("query", query), ("key", key), ("value", value)):
        if not t.dtype.is_floating_point or t.dtype != query.dtype:
            raise F.DTypeError(f"{op}: {name} {list(t.shape)} is {t.dtype}, query is {query.dtype}; query, key and value must be "
                               f"floating and of one dtype.")
        if t.ndim < 2:
            raise F.ShapeError(f"{op}: {name} {list(t.shape)} must have at least two dimensions [..., length, features].")
    if query.shape[-1] != key.shape[-1]:
        raise F.ShapeError(f"{op}: query {list(query.shape)} and key {list(key.shape)} must have equally many features.")
    if key.shape[-2] != value.shape[-2]:
        raise F.ShapeError(f"{op}: key {list(key.shape)} and value {list(value.shape)} must have equal lengths.")
    if not 0.0 <= dropout_p <= 1.0:
        raise ValueError(f"{op}: dropout_p = {dropout_p} is no probability; it must be in [0, 1].")
    if attn_mask is not None:
        if is_causal:
            raise ValueError(f"{op}: explicit attn_mask should not be set when is_causal=True; add the causal mask to attn_mask.")
        if attn_mask.dtype != F.bool_ and attn_mask.dtype != query.dtype:
            raise F.DTypeError(f"{op}: attn_mask {list(attn_mask.shape)} is {attn_mask.dtype}; it must be bool or {query.dtype}.")
    if query.itemsize < 4:                                  # half precision is storage: computed in float32, rounded once
        query, key, value = query.float(), key.float(), value.float()
        mask = attn_mask.float() if attn_mask is not None and attn_mask.dtype != F.bool_ else attn_mask
        return _scaled_dot_product_attention(query, key, value, mask, dropout_p, is_causal, scale=scale,
                                             enable_gqa=enable_gqa).to(dtype)
    grouped = False
    if enable_gqa:
        if min(query.ndim, key.ndim, value.ndim) < 3:
            raise F.ShapeError(f"{op}: enable_gqa needs a dimension of heads: query {list(query.shape)}, key {list(key.shape)}, "
                               f"value {list(value.shape)}.")
        heads = query.shape[-3]
        for name, t in (("key", key), ("value", value)):
            if t.shape[-3] == 0 or heads % t.shape[-3]:
                raise F.ShapeError(f"{op}: the heads of {name} {list(t.shape)} must divide those of query {list(query.shape)}.")
        if key.shape[-3] == value.shape[-3] and key.shape[-3] != heads:
            query, attn_mask = _group_heads(query, key.shape[-3]), _group_heads(attn_mask, key.shape[-3])
            key, value = key.unsqueeze(-3), value.unsqueeze(-3)
            grouped = True
        else:
            key, value = _repeat_heads(key, heads), _repeat_heads(value, heads)
    try:
        lead = F.broadcast_shapes(query.shape[:-2], key.shape[:-2], value.shape[:-2])
        weights = (*F.broadcast_shapes(query.shape[:-2], key.shape[:-2]), query.shape[-2], key.shape[-2])
        fits = attn_mask is None or tuple(F.broadcast_shapes(attn_mask.shape, weights)) == weights
    except ValueError:
        fits = lead = None
    if lead is None or not fits:
        raise F.ShapeError(f"{op}: query {list(query.shape)}, key {list(key.shape)}, value {list(value.shape)}"
                           + (f" and attn_mask {list(attn_mask.shape)}" if attn_mask is not None else "")
                           + " do not broadcast to one batch.")
    if scale is None:
        scale = 1 / math.sqrt(query.shape[-1]) if query.shape[-1] else math.inf
    seed = None
    if dropout_p == 1.0 or (dropout_p and F.in_vmap()):
        w = _attention_weights(query, key, attn_mask, is_causal, scale)
        y = F.matmul(F.dropout(w, dropout_p), value)
    else:
        if dropout_p:
            seed = F.randint(-2 ** 63, 2 ** 63 - 1, (1,))
        y = F.attention(*[t.expand(*lead, *t.shape[-2:]) for t in (query, key, value)], attn_mask, is_causal, scale, dropout_p,
                        seed)
    return y.flatten(-4, -3) if grouped else y


def _group_heads(t, groups):
    """[..., heads, n, m] as [..., groups, heads / groups, n, m]; a mask may have one head, or none."""
    if t is None or t.ndim < 3:
        return t
    return t.unsqueeze(-3) if t.shape[-3] == 1 else t.unflatten(-3, (groups, t.shape[-3] // groups))


def _repeat_heads(t, heads):
    """[..., h, n, e] with each of the h heads repeated: [..., heads, n, e]."""
    *lead, h, n, e = t.shape
    return t if h == heads else t.unsqueeze(-3).expand(*lead, h, heads // h, n, e).reshape(*lead, heads, n, e)


composed("scaled_dot_product_attention(Tensor query, Tensor key, Tensor value, Tensor? attn_mask=None, float dropout_p=0.0, "
         "bool is_causal=False, *, float? scale=None, bool enable_gqa=False)", _scaled_dot_product_attention, method=False,
         doc="Attention of queries [..., L, E] over keys [..., S, E] and values [..., S, V]: [..., L, V].  "
             "y = softmax(query key^T scale + attn_mask) value; scale is 1 / sqrt(E) unless given; attn_mask is added, or bool, "
             "true where a query may look; is_causal: query i looks at keys 0..i; enable_gqa: key and value have fewer heads "
             "(dimension -3), each for several queries.", source="Vaswani et al., 2017")

# ---- many heads -----------------------------------------------------------------------------------------------------


def _mask(mask, name, dtype):
    """A mask to be added: a bool one is -inf where it is true."""
    if mask is None:
        return None
    if mask.dtype != F.bool_ and not mask.dtype.is_floating_point:
        raise AssertionError(f"only bool and floating types of {name} are supported")
    return F.where(mask, F.full((), -math.inf, dtype=dtype), 0.0) if mask.dtype == F.bool_ else mask


def _expect(true, message):
    if not true:
        raise AssertionError(message)


def _check_heads(query, key, value, key_padding_mask, attn_mask, num_heads):
    """Ranks of the arguments; whether they are batched."""
    n = query.ndim
    _expect(n in (2, 3), f"query should be unbatched 2D or batched 3D tensor but received {n}-D query tensor")
    kind = "batched (3-D)" if n == 3 else "unbatched (2-D)"
    _expect(key.ndim == n and value.ndim == n, f"For {kind} `query`, expected `key` and `value` to be {n}-D but found "
            f"{key.ndim}-D and {value.ndim}-D tensors respectively")
    _expect(key_padding_mask is None or key_padding_mask.ndim == n - 1, f"For {kind} `query`, expected `key_padding_mask` to be "
            f"`None` or {n - 1}-D" + ("" if key_padding_mask is None else f" but found {key_padding_mask.ndim}-D tensor instead"))
    if attn_mask is not None:
        _expect(attn_mask.ndim in (2, 3), f"For {kind} `query`, expected `attn_mask` to be `None`, 2-D or 3-D but found "
                f"{attn_mask.ndim}-D tensor instead")
        if n == 2 and attn_mask.ndim == 3:
            shape = (num_heads, query.shape[0], key.shape[0])
            _expect(tuple(attn_mask.shape) == shape, f"Expected `attn_mask` shape to be {shape} but got {tuple(attn_mask.shape)}")
    return n == 3


def _project(query, key, value, weight, bias):
    """Queries, keys and values by the three parts of one weight [3E, E]."""
    if key is value:
        if query is key:
            return F.linear(query, weight, bias).chunk(3, -1)
        e = query.shape[-1]
        wq, wkv = weight.split([e, 2 * e])
        bq, bkv = (None, None) if bias is None else bias.split([e, 2 * e])
        return (F.linear(query, wq, bq), *F.linear(key, wkv, bkv).chunk(2, -1))
    biases = (None, None, None) if bias is None else bias.chunk(3)
    return [F.linear(x, w, b) for x, w, b in zip((query, key, value), weight.chunk(3), biases)]


def _project_separately(query, key, value, wq, wk, wv, bias):
    e = query.shape[-1]
    for name, w, x in (("query", wq, query), ("key", wk, key), ("value", wv, value)):
        _expect(w is not None, f"use_separate_proj_weight is True but {name[0]}_proj_weight is None")
        _expect(tuple(w.shape) == (e, x.shape[-1]),
                f"expecting {name} weights shape of {(e, x.shape[-1])}, but got {tuple(w.shape)}")
    biases = (None, None, None) if bias is None else bias.chunk(3)
    return F.linear(query, wq, biases[0]), F.linear(key, wk, biases[1]), F.linear(value, wv, biases[2])


def _multi_head_attention_forward(query, key, value, embed_dim_to_check, num_heads, in_proj_weight, in_proj_bias, bias_k, bias_v,
                                  add_zero_attn, dropout_p, out_proj_weight, out_proj_bias, training=True, key_padding_mask=None,
                                  need_weights=True, attn_mask=None, use_separate_proj_weight=False, q_proj_weight=None,
                                  k_proj_weight=None, v_proj_weight=None, static_k=None, static_v=None,
                                  average_attn_weights=True, is_causal=False):
    batched = _check_heads(query, key, value, key_padding_mask, attn_mask, num_heads)
    if not batched:
        query, key, value = query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1)
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    tgt, batch, embed = query.shape
    if key_padding_mask is not None and attn_mask is not None and key_padding_mask.dtype != attn_mask.dtype:
        warnings.warn("Support for mismatched key_padding_mask and attn_mask is deprecated. Use same type for both instead.",
                      stacklevel=3)
    padding = _mask(key_padding_mask, "key_padding_mask", query.dtype)
    if is_causal and attn_mask is None:
        raise RuntimeError("Need attn_mask if specifying the is_causal hint. You may use the Transformer module method "
                           "`generate_square_subsequent_mask` to create this mask.")
    if is_causal and padding is None and not need_weights:
        mask = None
    else:
        mask = _mask(attn_mask, "attn_mask", query.dtype)
        is_causal = False
    _expect(embed == embed_dim_to_check, f"was expecting embedding dimension of {embed_dim_to_check}, but got {embed}")
    size = embed // num_heads
    _expect(size * num_heads == embed, f"embed_dim {embed} not divisible by num_heads {num_heads}")
    if use_separate_proj_weight:
        _expect(key.shape[:2] == value.shape[:2], f"key's sequence and batch dims {tuple(key.shape[:2])} do not match value's "
                f"{tuple(value.shape[:2])}")
        q, k, v = _project_separately(query, key, value, q_proj_weight, k_proj_weight, v_proj_weight, in_proj_bias)
    else:
        _expect(key.shape == value.shape, f"key shape {tuple(key.shape)} does not match value shape {tuple(value.shape)}")
        _expect(in_proj_weight is not None, "use_separate_proj_weight is False but in_proj_weight is None")
        q, k, v = _project(query, key, value, in_proj_weight, in_proj_bias)
    if mask is not None:
        shape = (tgt, key.shape[0]) if mask.ndim == 2 else (batch * num_heads, tgt, key.shape[0])
        if tuple(mask.shape) != shape:
            raise RuntimeError(f"The shape of the {mask.ndim}D attn_mask is {tuple(mask.shape)}, but should be {shape}.")
        mask = mask if mask.ndim == 2 else mask.reshape(batch, num_heads, tgt, -1)
    more = 0                                        # keys that are no part of the input
    if bias_k is not None and bias_v is not None:
        _expect(static_k is None, "bias cannot be added to static key.")
        _expect(static_v is None, "bias cannot be added to static value.")
        k, v = F.cat([k, bias_k.repeat(1, batch, 1)]), F.cat([v, bias_v.repeat(1, batch, 1)])
        more += 1
    else:
        _expect(bias_k is None, "bias_k is set but bias_v is None")
        _expect(bias_v is None, "bias_v is set but bias_k is None")
    for name, t in (("static_k", static_k), ("static_v", static_v)):
        if t is not None:
            _expect(t.shape[0] == batch * num_heads, f"expecting {name}.size(0) of {batch * num_heads}, but got {t.shape[0]}")
            _expect(t.shape[2] == size, f"expecting {name}.size(2) of {size}, but got {t.shape[2]}")
    q = q.unflatten(-1, (num_heads, size)).permute(1, 2, 0, 3)      # [N, heads, length, size], views
    k = k.unflatten(-1, (num_heads, size)).permute(1, 2, 0, 3) if static_k is None else static_k.unflatten(0, (batch, num_heads))
    v = v.unflatten(-1, (num_heads, size)).permute(1, 2, 0, 3) if static_v is None else static_v.unflatten(0, (batch, num_heads))
    if add_zero_attn:
        zero = F.zeros((batch, num_heads, 1, size), dtype=k.dtype)
        k, v = F.cat([k, zero], 2), F.cat([v, zero], 2)
        more += 1
    if mask is not None and more:
        mask = F.cat([mask, F.zeros((*mask.shape[:-1], more), dtype=mask.dtype)], -1)
    if padding is not None:
        padding = F.cat([padding, F.zeros((padding.shape[0], more), dtype=padding.dtype)], -1) if more else padding
        for dim, n in enumerate((batch, k.shape[2])):
            _expect(padding.shape[dim] == n, f"Expected key_padded_mask.shape[{dim}] to be {n}, but got {padding.shape[dim]}")
        padding = padding.unsqueeze(1).unsqueeze(1)
        mask = padding if mask is None else mask + padding
    dropout_p = dropout_p if training else 0.0
    weights = None
    if need_weights:
        s = F.matmul(q * math.sqrt(1 / size), k.mT)
        weights = F.softmax(s if mask is None else s + mask, -1)
        weights = F.dropout(weights, dropout_p) if dropout_p else weights
        y = F.matmul(weights, v)
        weights = weights.mean(1) if average_attn_weights else weights
    else:
        y = F.scaled_dot_product_attention(q, k, v, mask, dropout_p, is_causal)
    y = F.linear(y.permute(2, 0, 1, 3).reshape(tgt, batch, embed), out_proj_weight, out_proj_bias)
    if not batched:
        y, weights = y.squeeze(1), None if weights is None else weights.squeeze(0)
    return y, weights


composed("multi_head_attention_forward(Tensor query, Tensor key, Tensor value, int embed_dim_to_check, int num_heads, "
         "Tensor? in_proj_weight, Tensor? in_proj_bias, Tensor? bias_k, Tensor? bias_v, bool add_zero_attn, float dropout_p, "
         "Tensor out_proj_weight, Tensor? out_proj_bias, bool training=True, Tensor? key_padding_mask=None, "
         "bool need_weights=True, Tensor? attn_mask=None, bool use_separate_proj_weight=False, Tensor? q_proj_weight=None, "
         "Tensor? k_proj_weight=None, Tensor? v_proj_weight=None, Tensor? static_k=None, Tensor? static_v=None, "
         "bool average_attn_weights=True, bool is_causal=False)", _multi_head_attention_forward, method=False,
         doc="Attention in num_heads parts of the features, between a projection of queries [L, N, E], keys [S, N, K] and values "
             "[S, N, V] and one of the result: [L, N, E], and the weights [N, L, S] (None unless need_weights; [N, heads, L, S] "
             "unless average_attn_weights).  Masks are added, or bool, true where a key must not be looked at.",
         source="Vaswani et al., 2017")
