"""Floor 3, nn: multi-head attention and the transformer of it."""

import copy

from fastbp._core import empty, full, triu
from fastbp.nn import functional as F
from fastbp.nn.container import ModuleList
from fastbp.nn.dropout import Dropout
from fastbp.nn.init import constant_, xavier_normal_, xavier_uniform_
from fastbp.nn.linear import Linear, NonDynamicallyQuantizableLinear
from fastbp.nn.module import Module
from fastbp.nn.normalization import LayerNorm
from fastbp.nn.parameter import Parameter

__all__ = [
    "MultiheadAttention", "Transformer", "TransformerDecoder", "TransformerDecoderLayer", "TransformerEncoder",
    "TransformerEncoderLayer",
]


class MultiheadAttention(Module):
    """Attention in several parts of the features, between learned projections.

    Formula: y = [head_1, ..., head_h] W_o^T + b_o, head_i = softmax(q_i k_i^T / sqrt(size)) v_i
    Args:
        embed_dim: features of query and result; num_heads: parts, which divide embed_dim.
        dropout: probability that a weight of attention is dropped; bias: of the projections.
        add_bias_kv, add_zero_attn: one more key and value, learned or zero.
        kdim, vdim: features of key and value, embed_dim by default.
        batch_first: (batch, length, features) instead of (length, batch, features).
    Shapes: query (L, N, E), key (S, N, K), value (S, N, V) -> (L, N, E) and weights (N, L, S); all without N, too.
    Errors: ValueError, AssertionError for sizes that do not fit.
    Source: Vaswani et al., 2017; torch.nn.MultiheadAttention

    >>> import fastbp
    >>> attention = MultiheadAttention(4, 2)
    >>> y, weights = attention(*[fastbp.ones(3, 1, 4)] * 3)
    >>> tuple(y.shape), tuple(weights.shape)
    ((3, 1, 4), (1, 3, 3))
    """

    def __init__(self, embed_dim, num_heads, dropout=0.0, bias=True, add_bias_kv=False, add_zero_attn=False, kdim=None, vdim=None,
                 batch_first=False, device=None, dtype=None):
        if embed_dim <= 0 or num_heads <= 0:
            raise ValueError("embed_dim and num_heads must be greater than 0, got "
                             f"embed_dim={embed_dim} and num_heads={num_heads} instead")
        super().__init__()
        self.embed_dim = embed_dim
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self._qkv_same_embed_dim = self.kdim == embed_dim and self.vdim == embed_dim
        self.num_heads = num_heads
        self.dropout = dropout
        self.batch_first = batch_first
        self.head_dim = embed_dim // num_heads
        if self.head_dim * num_heads != embed_dim:
            raise AssertionError("embed_dim must be divisible by num_heads")

        def new(*size):
            return Parameter(empty(size, device=device, dtype=dtype))
        same = self._qkv_same_embed_dim
        for name, columns in (("q_proj_weight", embed_dim), ("k_proj_weight", self.kdim), ("v_proj_weight", self.vdim)):
            self.register_parameter(name, None if same else new(embed_dim, columns))
        self.register_parameter("in_proj_weight", new(3 * embed_dim, embed_dim) if same else None)
        self.register_parameter("in_proj_bias", new(3 * embed_dim) if bias else None)
        self.out_proj = NonDynamicallyQuantizableLinear(embed_dim, embed_dim, bias=bias, device=device, dtype=dtype)
        self.register_parameter("bias_k", new(1, 1, embed_dim) if add_bias_kv else None)
        self.register_parameter("bias_v", new(1, 1, embed_dim) if add_bias_kv else None)
        self.add_zero_attn = add_zero_attn
        self._reset_parameters()

    def _reset_parameters(self):
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                xavier_uniform_(weight)
        if self.in_proj_bias is not None:
            constant_(self.in_proj_bias, 0.0)
            constant_(self.out_proj.bias, 0.0)
        if self.bias_k is not None:
            xavier_normal_(self.bias_k)
            xavier_normal_(self.bias_v)

    def forward(self, query, key, value, key_padding_mask=None, need_weights=True, attn_mask=None, average_attn_weights=True,
                is_causal=False):
        """Attention of `query` over `key` and `value`.

        Args:
            key_padding_mask: (N, S), bool and true where a key is no key, or a float to be added.
            need_weights: also return the weights; average_attn_weights: their mean over the heads.
            attn_mask: (L, S) or (N * num_heads, L, S), bool and true where a query must not look, or a float to be added.
            is_causal: a hint that attn_mask is the causal one.
        Returns: (result, weights or None).
        """
        swap = self.batch_first and query.dim() == 3
        if swap:
            # what is the same stays the same: its projections are one product
            turned = {id(t): t.transpose(1, 0) for t in (query, key, value)}
            query, key, value = (turned[id(t)] for t in (query, key, value))
        y, weights = F.multi_head_attention_forward(
            query, key, value, self.embed_dim, self.num_heads, self.in_proj_weight, self.in_proj_bias, self.bias_k, self.bias_v,
            self.add_zero_attn, self.dropout, self.out_proj.weight, self.out_proj.bias, self.training, key_padding_mask,
            need_weights, attn_mask, not self._qkv_same_embed_dim, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight,
            average_attn_weights=average_attn_weights, is_causal=is_causal)
        return (y.transpose(1, 0) if swap else y), weights


def _get_clones(module, N):
    return ModuleList([copy.deepcopy(module) for _ in range(N)])


def _get_activation_fn(activation):
    """A function from its name; anything else is one already."""
    if not isinstance(activation, str):
        return activation
    if activation not in ("relu", "gelu"):
        raise RuntimeError(f"activation should be relu/gelu, not {activation}")
    return getattr(F, activation)


class _Layer(Module):
    """What both layers have: attention to itself, two linear maps with an activation between them, norms and dropouts."""

    def __init__(self, norms, d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias,
                 device, dtype):
        super().__init__()
        place = {"device": device, "dtype": dtype}
        attention = ["self_attn", "multihead_attn"] if norms == 3 else ["self_attn"]
        for name in attention:
            self.add_module(name, MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, **place))
        self.linear1 = Linear(d_model, dim_feedforward, bias=bias, **place)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias=bias, **place)
        self.norm_first = norm_first
        for k in range(1, norms + 1):
            self.add_module(f"norm{k}", LayerNorm(d_model, eps=layer_norm_eps, bias=bias, **place))
        for k in range(1, norms + 1):
            self.add_module(f"dropout{k}", Dropout(dropout))
        self.activation = _get_activation_fn(activation)

    def __setstate__(self, state):
        super().__setstate__(state)
        if "activation" not in self.__dict__:
            self.activation = F.relu

    def _sa_block(self, x, attn_mask, key_padding_mask, is_causal=False):
        return self.dropout1(self.self_attn(x, x, x, attn_mask=attn_mask, key_padding_mask=key_padding_mask, need_weights=False,
                                            is_causal=is_causal)[0])

    def _feed(self, x):
        return self.linear2(self.dropout(self.activation(self.linear1(x))))


class TransformerEncoderLayer(_Layer):
    """Attention of a sequence to itself, then two linear maps; each with a residual and a layer norm.

    Formula: x = norm1(x + attention(x)); y = norm2(x + linear2(activation(linear1(x)))), or with the norms first
    Args:
        d_model: features; nhead: heads; dim_feedforward: features between the linear maps; dropout: probability.
        activation: "relu", "gelu" or a function; layer_norm_eps; batch_first: (N, S, E) instead of (S, N, E).
        norm_first: x + attention(norm1(x)) and so on; bias: of all linear maps and norms.
    Source: Vaswani et al., 2017; torch.nn.TransformerEncoderLayer

    >>> import fastbp
    >>> layer = TransformerEncoderLayer(d_model=8, nhead=2, dim_feedforward=16)
    >>> tuple(layer(fastbp.ones(5, 3, 8)).shape)
    (5, 3, 8)
    """

    def __init__(self, d_model, nhead, dim_feedforward=2048, dropout=0.1, activation=F.relu, layer_norm_eps=1e-5,
                 batch_first=False, norm_first=False, bias=True, device=None, dtype=None):
        super().__init__(2, d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias,
                         device, dtype)

    def _ff_block(self, x):
        return self.dropout2(self._feed(x))

    def forward(self, src, src_mask=None, src_key_padding_mask=None, is_causal=False):
        """Args: src; src_mask, src_key_padding_mask: as attn_mask and key_padding_mask of MultiheadAttention."""
        x = src
        if self.norm_first:
            x = x + self._sa_block(self.norm1(x), src_mask, src_key_padding_mask, is_causal)
            return x + self._ff_block(self.norm2(x))
        x = self.norm1(x + self._sa_block(x, src_mask, src_key_padding_mask, is_causal))
        return self.norm2(x + self._ff_block(x))


class TransformerDecoderLayer(_Layer):
    """Attention of a sequence to itself, then to a memory, then two linear maps; each with a residual and a layer norm.

    Args: as TransformerEncoderLayer.
    Source: Vaswani et al., 2017; torch.nn.TransformerDecoderLayer

    >>> import fastbp
    >>> layer = TransformerDecoderLayer(d_model=8, nhead=2, dim_feedforward=16)
    >>> tuple(layer(fastbp.ones(5, 3, 8), fastbp.ones(4, 3, 8)).shape)
    (5, 3, 8)
    """

    def __init__(self, d_model, nhead, dim_feedforward=2048, dropout=0.1, activation=F.relu, layer_norm_eps=1e-5,
                 batch_first=False, norm_first=False, bias=True, device=None, dtype=None):
        super().__init__(3, d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias,
                         device, dtype)

    def _mha_block(self, x, mem, attn_mask, key_padding_mask, is_causal=False):
        return self.dropout2(self.multihead_attn(x, mem, mem, attn_mask=attn_mask, key_padding_mask=key_padding_mask,
                                                 is_causal=is_causal, need_weights=False)[0])

    def _ff_block(self, x):
        return self.dropout3(self._feed(x))

    def forward(self, tgt, memory, tgt_mask=None, memory_mask=None, tgt_key_padding_mask=None, memory_key_padding_mask=None,
                tgt_is_causal=False, memory_is_causal=False):
        """Args: tgt; memory; masks of the attention to tgt and to memory, as in MultiheadAttention."""
        x = tgt
        if self.norm_first:
            x = x + self._sa_block(self.norm1(x), tgt_mask, tgt_key_padding_mask, tgt_is_causal)
            x = x + self._mha_block(self.norm2(x), memory, memory_mask, memory_key_padding_mask, memory_is_causal)
            return x + self._ff_block(self.norm3(x))
        x = self.norm1(x + self._sa_block(x, tgt_mask, tgt_key_padding_mask, tgt_is_causal))
        x = self.norm2(x + self._mha_block(x, memory, memory_mask, memory_key_padding_mask, memory_is_causal))
        return self.norm3(x + self._ff_block(x))


class TransformerEncoder(Module):
    """A stack of copies of an encoder layer.

    Args: encoder_layer; num_layers; norm: a module for the result; enable_nested_tensor, mask_check: accepted, without effect.
    Source: torch.nn.TransformerEncoder
    """

    def __init__(self, encoder_layer, num_layers, norm=None, enable_nested_tensor=True, mask_check=True):
        super().__init__()
        self.layers = _get_clones(encoder_layer, num_layers)
        self.num_layers = num_layers
        self.norm = norm
        self.enable_nested_tensor = self.use_nested_tensor = enable_nested_tensor
        self.mask_check = mask_check

    def forward(self, src, mask=None, src_key_padding_mask=None, is_causal=None):
        """Args: src; mask, src_key_padding_mask: as attn_mask and key_padding_mask of MultiheadAttention."""
        y = src
        for layer in self.layers:
            y = layer(y, src_mask=mask, src_key_padding_mask=src_key_padding_mask, is_causal=bool(is_causal))
        return y if self.norm is None else self.norm(y)


class TransformerDecoder(Module):
    """A stack of copies of a decoder layer.

    Args: decoder_layer; num_layers; norm: a module for the result.
    Source: torch.nn.TransformerDecoder
    """

    def __init__(self, decoder_layer, num_layers, norm=None):
        super().__init__()
        self.layers = _get_clones(decoder_layer, num_layers)
        self.num_layers = num_layers
        self.norm = norm

    def forward(self, tgt, memory, tgt_mask=None, memory_mask=None, tgt_key_padding_mask=None, memory_key_padding_mask=None,
                tgt_is_causal=None, memory_is_causal=False):
        """Args: as TransformerDecoderLayer."""
        y = tgt
        for layer in self.layers:
            y = layer(y, memory, tgt_mask=tgt_mask, memory_mask=memory_mask, tgt_key_padding_mask=tgt_key_padding_mask,
                      memory_key_padding_mask=memory_key_padding_mask, tgt_is_causal=bool(tgt_is_causal),
                      memory_is_causal=memory_is_causal)
        return y if self.norm is None else self.norm(y)


class Transformer(Module):
    """An encoder and a decoder.

    Args: d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias: of the layers;
        num_encoder_layers, num_decoder_layers; custom_encoder, custom_decoder: modules to be used instead.
    Shapes: src (S, N, E), tgt (T, N, E) -> (T, N, E).
    Errors: RuntimeError for batches or features that do not fit.
    Source: Vaswani et al., 2017; torch.nn.Transformer

    >>> import fastbp
    >>> net = Transformer(8, 2, 1, 1, 16)
    >>> tuple(net(fastbp.ones(4, 3, 8), fastbp.ones(5, 3, 8)).shape)
    (5, 3, 8)
    """

    def __init__(self, d_model=512, nhead=8, num_encoder_layers=6, num_decoder_layers=6, dim_feedforward=2048, dropout=0.1,
                 activation=F.relu, custom_encoder=None, custom_decoder=None, layer_norm_eps=1e-5, batch_first=False,
                 norm_first=False, bias=True, device=None, dtype=None):
        super().__init__()
        settings = (d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias, device,
                    dtype)

        def norm():
            return LayerNorm(d_model, eps=layer_norm_eps, bias=bias, device=device, dtype=dtype)
        if custom_encoder is None:
            custom_encoder = TransformerEncoder(TransformerEncoderLayer(*settings), num_encoder_layers, norm())
        if custom_decoder is None:
            custom_decoder = TransformerDecoder(TransformerDecoderLayer(*settings), num_decoder_layers, norm())
        self.encoder, self.decoder = custom_encoder, custom_decoder
        self._reset_parameters()
        self.d_model = d_model
        self.nhead = nhead
        self.batch_first = batch_first

    def _reset_parameters(self):
        for p in self.parameters():
            if p.dim() > 1:
                xavier_uniform_(p)

    def forward(self, src, tgt, src_mask=None, tgt_mask=None, memory_mask=None, src_key_padding_mask=None,
                tgt_key_padding_mask=None, memory_key_padding_mask=None, src_is_causal=None, tgt_is_causal=None,
                memory_is_causal=False):
        """Args: src, tgt; masks as those of MultiheadAttention, of src, of tgt, and of tgt to the encoder's result."""
        batch = 0 if self.batch_first else 1
        if src.dim() == 3 and src.size(batch) != tgt.size(batch):
            raise RuntimeError("the batch number of src and tgt must be equal")
        if src.size(-1) != self.d_model or tgt.size(-1) != self.d_model:
            raise RuntimeError("the feature number of src and tgt must be equal to d_model")
        memory = self.encoder(src, mask=src_mask, src_key_padding_mask=src_key_padding_mask, is_causal=src_is_causal)
        return self.decoder(tgt, memory, tgt_mask=tgt_mask, memory_mask=memory_mask, tgt_key_padding_mask=tgt_key_padding_mask,
                            memory_key_padding_mask=memory_key_padding_mask, tgt_is_causal=tgt_is_causal,
                            memory_is_causal=memory_is_causal)

    @staticmethod
    def generate_square_subsequent_mask(sz, device=None, dtype=None):
        """The mask to add that lets position i see positions up to i: 0 there, -inf elsewhere; (sz, sz)."""
        return triu(full((sz, sz), float("-inf"), dtype=dtype, device=device), 1)
