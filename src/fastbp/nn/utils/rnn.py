"""Floor 3, nn: sequences of several lengths, padded and packed, for recurrent layers."""

from typing import NamedTuple

from fastbp import _core
from fastbp._core import Tensor, as_tensor, int64

__all__ = [
    "PackedSequence", "invert_permutation", "pack_padded_sequence", "pack_sequence", "pad_packed_sequence", "pad_sequence",
    "unpack_sequence", "unpad_sequence",
]


class _Packed(NamedTuple):
    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None
    unsorted_indices: Tensor | None


class PackedSequence(_Packed):
    """The steps of sequences of several lengths without padding: step 0 of all, step 1 of those that have one, and so on.

    Made by `pack_padded_sequence` and `pack_sequence`.

    Fields: data (sum of lengths, ...); batch_sizes int64 (T): how many sequences have step t; sorted_indices, unsorted_indices
    (N): the order in which the sequences were packed, longest first, and the way back; None where they came sorted.
    Source: torch.nn.utils.rnn.PackedSequence
    """

    def __new__(cls, data, batch_sizes=None, sorted_indices=None, unsorted_indices=None):
        if batch_sizes is None:
            data, batch_sizes = data
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def to(self, *args, **kwargs):
        """The same with `data.to(...)`."""
        data = self.data.to(*args, **kwargs)
        return self if data is self.data else type(self)(data, *self[1:])

    def cpu(self, *args, **kwargs):
        """Itself: there is only the CPU."""
        return self

    def double(self):
        return self.to(dtype=_core.float64)

    def float(self):
        return self.to(dtype=_core.float32)

    def half(self):
        return self.to(dtype=_core.float16)

    def long(self):
        return self.to(dtype=_core.int64)

    def int(self):
        return self.to(dtype=_core.int32)

    def short(self):
        return self.to(dtype=_core.int16)

    def char(self):
        return self.to(dtype=_core.int8)

    def byte(self):
        return self.to(dtype=_core.uint8)

    def pin_memory(self):
        """Itself."""
        return self

    def is_pinned(self):
        return False

    @property
    def is_cuda(self):
        return False


def invert_permutation(permutation):
    """The permutation that undoes another one; None for None.

    >>> import fastbp
    >>> invert_permutation(fastbp.tensor([2, 0, 1])).tolist()
    [1, 2, 0]
    """
    if permutation is None:
        return None
    return _core.zeros_like(permutation).scatter(0, permutation, _core.arange(permutation.numel(), dtype=permutation.dtype))


def pack_padded_sequence(input, lengths, batch_first=False, enforce_sorted=True):
    """The steps of padded sequences, without their padding.

    Args:
        input: (T, N, ...), or (N, T, ...) if batch_first.
        lengths: (N), a tensor or list of ints.
        enforce_sorted: lengths must not increase; otherwise the sequences are sorted here.
    Returns: PackedSequence.
    Errors: a shape error or ValueError for lengths that do not fit.
    Source: torch.nn.utils.rnn.pack_padded_sequence

    >>> import fastbp
    >>> packed = pack_padded_sequence(fastbp.tensor([[1, 2], [3, 4], [5, 0]]), [3, 2])
    >>> packed.data.tolist(), packed.batch_sizes.tolist()
    ([1, 2, 3, 4, 5], [2, 2, 1])
    """
    lengths = as_tensor(lengths).to(int64)
    order = None
    if not enforce_sorted:
        sizes = lengths.tolist()
        order = _core.tensor(sorted(range(len(sizes)), key=lambda k: -sizes[k]), dtype=int64)
        lengths = lengths.index_select(0, order)
        input = input.index_select(0 if batch_first else 1, order)
    data, batch_sizes = _core._pack_padded_sequence(input, lengths, batch_first)
    return PackedSequence(data, batch_sizes, order)


def pad_packed_sequence(sequence, batch_first=False, padding_value=0.0, total_length=None):
    """Padded sequences (T, N, ...), or (N, T, ...) if batch_first, and their lengths (N): undoes `pack_padded_sequence`.

    Args: padding_value: of the elements beyond a sequence's end; total_length: T, where it shall be longer.
    Errors: ValueError when total_length is less than the longest sequence.
    Source: torch.nn.utils.rnn.pad_packed_sequence
    """
    longest = sequence.batch_sizes.shape[0]
    if total_length is not None and total_length < longest:
        raise ValueError(f"Expected total_length to be at least the length of the longest sequence in input, but got "
                         f"total_length={total_length} and max sequence length being {longest}")
    y, lengths = _core._pad_packed_sequence(sequence.data, sequence.batch_sizes, batch_first, padding_value, total_length or 0)
    back = sequence.unsorted_indices
    if back is None:
        return y, lengths
    return y.index_select(0 if batch_first else 1, back), lengths.index_select(0, back)


def pad_sequence(sequences, batch_first=False, padding_value=0.0, padding_side="right"):
    """Sequences (T_i, ...) side by side, padded to the longest: (T, N, ...), or (N, T, ...) if batch_first.

    Args: padding_side: "right", or "left": before the sequence.
    Errors: a shape error when they differ in another dimension than the first.
    Source: torch.nn.utils.rnn.pad_sequence

    >>> import fastbp
    >>> pad_sequence([fastbp.tensor([1, 2]), fastbp.tensor([3])], batch_first=True).tolist()
    [[1, 2], [3, 0]]
    """
    if not isinstance(sequences, Tensor) and not hasattr(sequences, "__iter__"):
        raise RuntimeError(f"pad_sequence: Expected iterable for input sequences, but got arg of type: {type(sequences)}")
    return _core.pad_sequence(list(sequences), batch_first, padding_value, padding_side)


def unpad_sequence(padded_sequences, lengths, batch_first=False):
    """The list of sequences (T_i, ...) that `pad_sequence` put side by side.  Source: torch.nn.utils.rnn.unpad_sequence"""
    rows = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    return [row[:int(n)] for row, n in zip(rows.unbind(0), lengths)]


def pack_sequence(sequences, enforce_sorted=True):
    """`pack_padded_sequence` of sequences (T_i, ...).  Source: torch.nn.utils.rnn.pack_sequence

    >>> import fastbp
    >>> pack_sequence([fastbp.tensor([1, 2]), fastbp.tensor([3])]).data.tolist()
    [1, 3, 2]
    """
    return pack_padded_sequence(pad_sequence(sequences), [s.shape[0] for s in sequences], enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences):
    """The list of sequences that `pack_sequence` packed.  Source: torch.nn.utils.rnn.unpack_sequence"""
    y, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(y, lengths, batch_first=True)
