"""Floor 3: trees of tuples, lists and dictionaries, taken apart into leaves and put together again."""

from collections import OrderedDict, defaultdict, deque

__all__ = ["LeafSpec", "TreeSpec", "tree_all", "tree_any", "tree_flatten", "tree_iter", "tree_leaves", "tree_map", "tree_map_",
           "tree_map_only", "tree_structure", "tree_unflatten"]

_REGISTERED: dict = {}        # class -> (children and context of an instance, instance of children and context)


class TreeSpec:
    """The shape of a tree: the type of its root, what the root needs besides its children, and their shapes."""

    __slots__ = ("type", "context", "children_specs")

    def __init__(self, type, context=None, children_specs=()):
        self.type, self.context, self.children_specs = type, context, list(children_specs)

    @property
    def num_leaves(self):
        """How many leaves the tree has."""
        return 1 if self.type is None else sum(c.num_leaves for c in self.children_specs)

    @property
    def num_children(self):
        """How many children the root has."""
        return len(self.children_specs)

    def is_leaf(self):
        """Whether the tree is a leaf."""
        return self.type is None

    def unflatten(self, leaves):
        """The tree with these leaves."""
        return tree_unflatten(leaves, self)

    def __eq__(self, other):
        return isinstance(other, TreeSpec) and (self.type, self.context, self.children_specs) == (
            other.type, other.context, other.children_specs)

    def __hash__(self):
        return hash((self.type, len(self.children_specs), self.num_leaves))

    def __repr__(self):
        if self.type is None:
            return "*"
        return f"TreeSpec({self.type.__name__}, {self.context}, {self.children_specs})"


class LeafSpec(TreeSpec):
    """The shape of a leaf."""

    __slots__ = ()

    def __init__(self):
        super().__init__(None)


_LEAF = LeafSpec()


def register_pytree_node(cls, flatten_fn, unflatten_fn, **names):
    """Lets instances of `cls` be inner nodes: `flatten_fn(x)` gives (children, context), `unflatten_fn(children, context)` x."""
    _REGISTERED[cls] = (flatten_fn, unflatten_fn)


_register_pytree_node = register_pytree_node


def _open(tree):
    """(type, children, context) of an inner node; None for a leaf."""
    kind = type(tree)
    if kind is tuple or kind is list:
        return kind, tree, None
    if kind is dict or kind is OrderedDict:
        return kind, list(tree.values()), list(tree)
    if kind is defaultdict:
        return kind, list(tree.values()), (tree.default_factory, list(tree))
    if kind is deque:
        return kind, list(tree), tree.maxlen
    if kind in _REGISTERED:
        children, context = _REGISTERED[kind][0](tree)
        return kind, list(children), context
    if isinstance(tree, tuple) and hasattr(kind, "_fields"):
        return kind, tree, None
    return None


def _close(kind, children, context):
    if kind is tuple or kind is list:
        return kind(children)
    if kind is dict or kind is OrderedDict:
        return kind(zip(context, children))
    if kind is defaultdict:
        return defaultdict(context[0], zip(context[1], children))
    if kind is deque:
        return deque(children, maxlen=context)
    if kind in _REGISTERED:
        return _REGISTERED[kind][1](children, context)
    return kind(*children)


def tree_flatten(tree, is_leaf=None):
    """The leaves of a tree, in order, and its shape.

    Args: tree: nested tuples, lists, dicts, named tuples; is_leaf: function that says which node shall be a leaf.
    Returns: (list of leaves, TreeSpec).

    >>> leaves, spec = tree_flatten({"a": (1, 2), "b": 3})
    >>> leaves, tree_unflatten(leaves, spec)
    ([1, 2, 3], {'a': (1, 2), 'b': 3})
    """
    leaves = []
    return leaves, _take_apart(tree, is_leaf, leaves)


def _take_apart(node, is_leaf, leaves):
    # no function inside a function: one that calls itself is a cycle, which would keep the leaves until the collector comes
    opened = None if is_leaf is not None and is_leaf(node) else _open(node)
    if opened is None:
        leaves.append(node)
        return _LEAF
    kind, children, context = opened
    return TreeSpec(kind, context, [_take_apart(c, is_leaf, leaves) for c in children])


def tree_unflatten(leaves, treespec):
    """The tree of a shape with these leaves.  Errors: ValueError for another number of leaves."""
    leaves = list(leaves)
    if treespec.type is None and len(leaves) == 1:
        return leaves[0]
    if len(leaves) != treespec.num_leaves:
        raise ValueError(f"tree_unflatten: the tree has {treespec.num_leaves} leaves, got {len(leaves)}")
    return _put_together(treespec, iter(leaves))


def _put_together(spec, rest):
    if spec.type is None:
        return next(rest)
    return _close(spec.type, [_put_together(c, rest) for c in spec.children_specs], spec.context)


def tree_leaves(tree, is_leaf=None):
    """The leaves of a tree, in order."""
    return tree_flatten(tree, is_leaf)[0]


def tree_iter(tree, is_leaf=None):
    """Iterates over the leaves."""
    return iter(tree_leaves(tree, is_leaf))


def tree_structure(tree, is_leaf=None):
    """The shape of a tree."""
    return tree_flatten(tree, is_leaf)[1]


def tree_map(func, tree, *rests, is_leaf=None):
    """The tree of `func(leaf, leaves of the rests at the same place)`.

    >>> tree_map(lambda a, b: a + b, (1, [2]), (10, [20]))
    (11, [22])
    """
    leaves, spec = tree_flatten(tree, is_leaf)
    others = [_flatten_up_to(r, spec) for r in rests]
    return tree_unflatten([func(*row) for row in zip(leaves, *others)], spec)


def _flatten_up_to(tree, spec):
    """What stands in `tree` at the places of the leaves of `spec`."""
    if spec.type is None:
        return [tree]
    opened = _open(tree)
    if opened is None or len(opened[1]) != len(spec.children_specs):
        raise ValueError(f"tree_map: expected a {spec.type.__name__} of {len(spec.children_specs)}, got {type(tree).__name__}")
    kind, children, _context = opened
    if kind in (dict, OrderedDict):
        children = [tree[k] for k in spec.context]
    return [leaf for c, s in zip(children, spec.children_specs) for leaf in _flatten_up_to(c, s)]


def tree_map_(func, tree, *rests, is_leaf=None):
    """Calls `func` on all leaves.  Returns: the tree itself."""
    tree_map(func, tree, *rests, is_leaf=is_leaf)
    return tree


def tree_map_only(kind, func, tree=None, is_leaf=None):
    """`tree_map` on the leaves of a type (or for which a function is true); the others stay."""
    chosen = kind if callable(kind) and not isinstance(kind, type) else lambda x: isinstance(x, kind)
    return tree_map(lambda x: func(x) if chosen(x) else x, tree, is_leaf=is_leaf)


def tree_all(pred, tree, is_leaf=None):
    """Whether `pred` holds for every leaf."""
    return all(map(pred, tree_leaves(tree, is_leaf)))


def tree_any(pred, tree, is_leaf=None):
    """Whether `pred` holds for some leaf."""
    return any(map(pred, tree_leaves(tree, is_leaf)))
