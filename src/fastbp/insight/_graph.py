"""Floor 4, insight: the computational graph as plain numbers and words, and what can be read off it.

A Graph holds no tensors.  It is made from a Recording (everything is known), or from a result's tape alone: then the values
are those that the tape kept for the backward pass, and those that follow from them.
"""

import re
import sys
from collections.abc import Callable

import fastbp
from fastbp import _core
from fastbp._core import Tensor
from fastbp.insight._record import _RECENT, Op, Recording, Stats, line_of, names_in, short
from fastbp.nn import Module
from fastbp.ops import TABLE, trace

__all__ = ["Graph", "GraphNode", "blame", "diff", "graph"]

SIGNS = {"add": "+", "sub": "-", "mul": "·", "div": "/", "pow": "^", "matmul": "@"}
# The transposes of linear rows are compiled code; what they compute, in words of the row's arguments.
COMPILED = {
    "matmul": {"input": "v @ other.T", "other": "input.T @ v"},
    "linear": {"input": "v @ weight", "weight": "v.T @ input", "bias": "sum of v over rows"},
    "sum": {"input": "v, to each element"}, "mean": {"input": "v / n, to each element"},
    "softmax": {"input": "y * (v - sum(v * y))"}, "log_softmax": {"input": "v - exp(y) * sum(v)"},
    "mse_loss": {"input": "v * 2 (input - target) / n", "target": "-v * 2 (input - target) / n"},
    "reshape": {"input": "v, in the input's shape"}, "permute": {"input": "v, permuted back"},
    "cross_entropy_mean": {"input": "v * (softmax(input) - onehot(target)) / N"},
}


def derivatives(row):
    """{argument: text} of a row's rules, as the table writes them; pointwise: the partial derivative."""
    out = {}
    for name, rule in row.rules.items():
        if isinstance(rule, str) or not callable(rule):
            text = COMPILED.get(row.name, {}).get(name, "")
        else:
            try:
                text = str(trace(rule))
            except Exception:       # a rule that looks at shapes cannot be fed with symbols
                text = ""
        if text[:1] == "(" and text[-1:] == ")" and _closes_last(text):
            text = text[1:-1]
        out[name] = text
    return out


def _closes_last(text):
    depth = 0
    for k, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if depth == 0:
            return k == len(text) - 1
    return False


class GraphNode:
    """One node.

    kind: "op", "leaf" (a gradient is kept), "data" or "number"; name: the variable's or parameter's, or ""; op: the row;
    inputs: ids; group: the calls of modules it is in, outermost first; value, grad: Stats or None; products: {input: Stats},
    what it passes back to each input; local: {input: local derivative} of scalars; update: Stats after the optimizer's step;
    time, back_time: nanoseconds; bytes: of the result; line, code: where it was made; formula; rules: [(argument, derivative)].
    """

    def __init__(self, id, kind, op=""):
        self.id, self.kind, self.op = id, kind, op
        self.name = self.line = self.code = self.formula = ""
        self.inputs, self.slots, self.group, self.rules, self.arguments = [], [], (), [], []
        self.value = self.grad = self.update = self.time = self.back_time = None
        self.products, self.local = {}, {}
        self.constants = []
        self.back_order = None

    @property
    def bytes(self):
        return self.value.bytes if self.value is not None else 0

    def __repr__(self):
        return f"<{self.kind} {self.name or self.op}>"


class Graph:
    """Nodes in the order of the forward pass; `loss` is the last one's id.  `graph[name]` finds a node.

    Attributes: nodes; loss; groups: {path of calls: class of the module}.
    """

    def __init__(self, nodes, loss, groups, title="graph"):
        self.nodes, self.loss, self.groups, self.title = nodes, loss, groups, title

    def __len__(self):
        return len(self.nodes)

    def __getitem__(self, key):
        if isinstance(key, int):
            return self.nodes[key]
        found = [n for n in self.nodes if n.name == key] or [n for n in self.nodes if n.op == key]
        if not found:
            raise KeyError(f"no node is called {key!r}; there are {', '.join(filter(None, (n.name for n in self.nodes)))}")
        return found[0]

    def __repr__(self):
        leaves = sum(n.kind == "leaf" for n in self.nodes)
        return f"<Graph: {sum(n.kind == 'op' for n in self.nodes)} operations, {leaves} leaves>"

    def label(self, k):
        """How a node is named in formulas: its variable, its number, or "v" and its position."""
        n = self.nodes[k]
        if n.kind == "number":
            return short(n.value.scalar, 6)
        return n.name or f"v{n.id}"

    def expression(self, n, labels=None):
        """`a + b`, `sigmoid(s)`: what an operation is made of."""
        if n.kind != "op":
            return {"leaf": "leaf", "data": "input", "number": "number"}[n.kind]
        parts = labels or [self.label(k) for k in n.inputs]
        sign = SIGNS.get(n.op)
        if sign and len(parts) == 2:
            return f"{parts[0]} {sign} {parts[1]}"
        return f"{n.op}({', '.join([*parts, *(short(c, 6) if not isinstance(c, str) else c for c in n.constants)][:6])})"

    # ---- a terminal ---------------------------------------------------------------------------------------------

    def text(self, depth=None):
        """A table: name, what it is made of, value (a scalar's number, else shape, mean and std), gradient.

        Args: depth: how many levels of modules to open; deeper ones are one line each.
        """
        rows, seen = [], set()
        for n in self.nodes:
            if n.kind == "number":
                continue
            if depth is not None and len(n.group) > depth:
                key = n.group[:depth + 1]
                if key not in seen:
                    seen.add(key)
                    inside = [m for m in self.nodes if m.group[:depth + 1] == key]
                    rows.append((_call(key[-1]), self.groups.get(key, ""), f"{len(inside)} nodes", ""))
                continue
            made = f"{n.op}({', '.join(self.label(k) for k in n.inputs)})" if n.kind == "op" else self.expression(n)
            rows.append((self.label(n.id), made, _value(n.value), f"gradient {_value(n.grad)}" if n.grad is not None else ""))
        widths = [max((len(r[k]) for r in rows), default=0) for k in range(3)]
        return "\n".join("  ".join([f"{r[0]:{widths[0]}}", f"{r[1]:{widths[1]}}",
                                    f"{r[2]:>{widths[2]}}", " " + r[3]]).rstrip() for r in rows)

    # ---- files --------------------------------------------------------------------------------------------------

    def dot(self):
        """The graph in graphviz's language, a cluster for each call of a module."""
        lines = ["digraph fastbp {", "  rankdir=LR; node [shape=box, style=rounded, fontname=Helvetica, fontsize=10];"]
        tree = {}
        for n in self.nodes:
            tree.setdefault(n.group, []).append(n)
        groups = sorted({g[:k] for g in tree for k in range(1, len(g) + 1)})

        def emit(group, indent):
            pad = "  " * indent
            for n in tree.get(group, ()):
                label = "\n".join(filter(None, (n.name or n.op, self.expression(n) if n.kind == "op" else "", _value(n.value),
                                                f"grad {_value(n.grad)}" if n.grad is not None else "")))
                lines.append(f"{pad}n{n.id} [label={_quoted(label)}];")
            for g in groups:
                if len(g) == len(group) + 1 and g[:len(group)] == group:
                    name = _quoted("cluster_" + "/".join(map(_call, g)))
                    lines.append(f"{pad}subgraph {name} {{ label={_quoted(_call(g[-1]))};")
                    emit(g, indent + 1)
                    lines.append(pad + "}")
        emit((), 1)
        lines += [f"  n{k} -> n{n.id};" for n in self.nodes for k in n.inputs]
        return "\n".join([*lines, "}"]) + "\n"

    def svg(self, path=None, depth=None, direction=None):
        """A picture, without graphviz.

        Args: path: file to write; depth: how many levels of modules to open (default: all of a small graph, else one);
            direction: "right" or "down" (default: by size).
        Returns: the text of the picture.
        """
        from fastbp.insight._layout import picture
        return _written(path, picture(self, depth, direction))

    def html(self, path=None):
        """One page that needs nothing else: zoom, fold, search, look at a node, step through the four moves.

        Returns: its text; writes it to `path` if given.
        """
        from fastbp.insight._page import graph_page
        return _written(path, graph_page(self))

    def _repr_svg_(self):
        return self.svg()

    # ---- the four moves -------------------------------------------------------------------------------------------

    def steps(self):
        """[(phase, node's id, text)]: forward, error, backward, update, in the order in which they happen.

        >>> a = fastbp.tensor(3.0, requires_grad=True)
        >>> for step in fastbp.insight.graph(a * a).steps(): print(step)
        ('forward', 0, 'a = 3')
        ('error', 1, 'loss = a · a = 3 · 3 = 9')
        ('backward', 1, '∂loss/∂loss = 1')
        ('backward', 1, '∂loss/∂a += ∂loss/∂loss · ∂loss/∂a = 1 · 3 = 3')
        ('backward', 1, '∂loss/∂a += ∂loss/∂loss · ∂loss/∂a = 1 · 3 = 3')
        ('backward', 0, '∂loss/∂a = 6')
        """
        out = []
        for n in self.nodes:
            if n.kind != "number":
                out.append(("error" if n.id == self.loss else "forward", n.id, self.forward_text(n)))
        back = [n for n in self.nodes if n.grad is not None and n.kind == "op"]
        e = self.label(self.loss)
        for n in sorted(back, key=lambda n: (-1 if n.id == self.loss else n.back_order if n.back_order is not None else 0)):
            if n.id == self.loss:
                out.append(("backward", n.id, f"∂{e}/∂{e} = {_value(n.grad)}"))
            out += [("backward", n.id, line) for line in self.backward_text(n)]
        for n in self.nodes:
            if n.kind == "leaf" and n.grad is not None:
                out.append(("backward", n.id, f"∂{e}/∂{self.label(n.id)} = {_value(n.grad)}"))
        for n in self.nodes:
            if n.update is not None:
                out.append(("update", n.id, self.update_text(n)))
        return out

    def forward_text(self, n):
        name, value = self.label(n.id), _value(n.value, 6)
        if n.kind != "op":
            return f"{name} = {value}"
        made = self.expression(n)
        numbers = [self.nodes[k].value.scalar if self.nodes[k].value is not None else None for k in n.inputs]
        if numbers and all(v is not None for v in numbers) and n.value is not None and n.value.scalar is not None:
            return f"{name} = {made} = {self.expression(n, [short(v, 6) for v in numbers])} = {value}"
        return f"{name} = {made} = {value}"

    def backward_text(self, n):
        """The products of the chain rule that a node computes."""
        e, name = self.label(self.loss), self.label(n.id)
        lines = []
        for i, product in sorted(n.products.items()):
            if i >= len(n.inputs):
                continue
            to = self.label(n.inputs[i])
            left = f"∂{e}/∂{to}" + (" +=" if self.users[n.inputs[i]] > 1 else " =")
            if i in n.local:
                lines.append(f"{left} ∂{e}/∂{name} · ∂{name}/∂{to} = {_value(n.grad, 6)} · {short(n.local[i], 6)} = "
                             f"{_value(product, 6)}")
            else:
                rule = next((text for k, (_, text) in enumerate(n.rules) if k == i and text), "")
                rule = f"  [{rule}, v = ∂{e}/∂{name}]" if "v" in rule else f"  [v * ({rule}), v = ∂{e}/∂{name}]" if rule else ""
                lines.append(f"{left} {_value(product)}{rule}")
        return lines

    def update_text(self, n):
        name = self.label(n.id)
        if n.update.scalar is not None and n.value is not None:
            old, new = n.value.scalar, n.update.scalar
            by = f" - {short(old - new, 6)}" if new <= old else f" + {short(new - old, 6)}"
            return f"{name} ← {short(old, 6)}{by} = {short(new, 6)}"
        return f"{name} ← {_value(n.update)}"

    @property
    def users(self):
        """How often each node is used."""
        if "_users" not in self.__dict__:
            self._users = dict.fromkeys(range(len(self.nodes)), 0)
            for n in self.nodes:
                for k in n.inputs:
                    self._users[k] += 1
        return self._users


def _value(stats, digits=4):
    if stats is None:
        return "?"
    if stats.scalar is not None:
        return short(stats.scalar, digits)
    shape = "×".join(map(str, stats.shape))
    if stats.nonfinite:
        return f"[{shape}] {short(stats.nonfinite * 100, 3)} % not finite"
    return f"[{shape}] {short(stats.mean, 3)} ± {short(stats.std, 3)}"


def _call(call):
    """A call of a module in words."""
    name, number = call
    return (name or "model") + (f" (call {number})" if number > 1 else "")


def _quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _written(path, text):
    if path is not None:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    return text


# ---- making one -----------------------------------------------------------------------------------------------------


def graph(loss, *inputs, model=None, optimizer=None, names=None):
    """The computational graph of a result: values, gradients, the chain rule at every node.

    Args:
        loss: a Tensor with a graph (one element); or a function of `inputs` that computes it.  Of a function everything is seen,
            and of what `record` saw; of a tensor alone, what its tape keeps: run it before backward() frees it.
        model: Module whose parts name and nest the nodes; found by itself when `loss` is one, or when inputs are needed by none.
        optimizer: an Optimizer, or a learning rate: shows the step that it would do.  It is undone.
        names: {name: tensor}; otherwise names are those of the caller's variables.
    Returns: Graph.
    Nothing is left behind: `.grad`, parameters and the optimizer's state are as before, and the graph can still go backward.
    Errors: TypeError for what is neither; RuntimeError for a tensor without a graph.

    >>> a, b, c = (fastbp.tensor(v, requires_grad=True) for v in (1.0, 2.0, 4.0))
    >>> e = (a + b) * c
    >>> print(fastbp.insight.graph(e).text())
    a   leaf        1    gradient 4
    b   leaf        2    gradient 4
    v2  add(a, b)   3    gradient 4
    c   leaf        4    gradient 3
    e   mul(v2, c)  12    gradient 1
    """
    frame, title = sys._getframe(1), ""
    named = {id(t): name for name, t in (names or {}).items()}
    named.update({id(t.grad_fn): name for name, t in (names or {}).items() if t.grad_fn is not None})
    names_in(frame, named)
    if isinstance(loss, Tensor):
        if inputs:
            raise TypeError("insight.graph: inputs belong to a function; a Tensor has its graph already.")
        if loss.grad_fn is None:
            raise RuntimeError("insight.graph: this tensor has no graph: it is a leaf, or was computed under no_grad().")
        for seen in reversed([r() for r in _RECENT]):
            if seen is not None and id(loss.grad_fn) in seen.by_id:
                seen.names = {**named, **seen.names}
                break
        else:
            seen = from_tape(loss, model)
            seen.names = named
    elif isinstance(loss, Callable):
        if model is None:
            model = loss if isinstance(loss, Module) else None
        model = getattr(model, "_orig_mod", model)
        seen, function = Recording(model), getattr(loss, "_orig_mod", loss)
        with seen:
            loss = function(*inputs)
        if isinstance(loss, Tensor) and loss.numel() != 1 and loss.grad_fn is not None:
            with seen:
                loss = loss.sum()
        if not isinstance(loss, Tensor) or loss.grad_fn is None:
            raise RuntimeError("insight.graph: the function must return a Tensor that depends on tensors with requires_grad.")
        seen.names = named = {**seen.names, **named}
        title = title if model is not None else getattr(function, "__name__", "")
        for k, x in enumerate(inputs):
            named.setdefault(id(x), f"input{k}" if len(inputs) > 1 else "input")
    else:
        raise TypeError(f"insight.graph: expected a Tensor or a function, got {type(loss).__name__}.")
    if model is not None:
        seen.model = model
    if not seen.by_id[id(loss.grad_fn)].adjoints and loss.numel() == 1:
        _go_backward(loss, seen)
    if optimizer is not None:
        _try_step(seen, optimizer)
    made = from_recording(seen, loss)
    if title and title != "<lambda>":
        made.title = title
    return made


def _go_backward(loss, seen):
    """The backward pass, for those who listen: leaves keep their .grad."""
    leaves = [leaf for leaf, _ in seen.leaves.values() if leaf.requires_grad]
    try:
        found = _core._grad([loss], leaves, None, True, False, True)
    except RuntimeError as error:
        if "freed" not in str(error):
            raise
        for leaf, known in seen.leaves.values():
            if leaf.grad is not None:
                known["grad"] = Stats(leaf.grad)
        return              # after backward(): the structure is still there
    for leaf, g in zip(leaves, found):
        known = seen.leaves[id(leaf)][1]
        if g is not None:
            known["grad"] = Stats(g)
            known["tensor"] = g


def _try_step(seen, optimizer):
    """What one step would make of the parameters."""
    leaves = [(leaf, known) for leaf, known in seen.leaves.values() if "tensor" in known]
    if isinstance(optimizer, (int, float)):
        for leaf, known in leaves:
            known["update"] = Stats(leaf.detach() - optimizer * known["tensor"])
        return
    from copy import deepcopy
    state = deepcopy(optimizer.state_dict())
    everyone = [p for group in optimizer.param_groups for p in group["params"]]
    before = [(p, p.detach().clone(), p.grad) for p in everyone]
    have = {id(leaf): known for leaf, known in leaves}
    try:
        for p in everyone:
            p.grad = have[id(p)]["tensor"].clone() if id(p) in have else None
        optimizer.step()
        for p in everyone:
            if id(p) in have:
                have[id(p)]["update"] = Stats(p)
    finally:
        with fastbp.no_grad():
            for p, value, grad in before:
                p.copy_(value)
                p.grad = grad
        optimizer.load_state_dict(state)


def from_tape(loss, model):
    """A Recording of a graph that nobody watched: structure, saved values, and what follows from these."""
    seen = Recording(model)
    homes = {}
    if model is not None:
        for name, p in model.named_parameters():
            homes.setdefault(id(p), name.rpartition(".")[0])
    todo, order, open_ = [(loss.grad_fn, False)], [], set()
    while todo:                                     # inputs before what is made of them, without recursion
        node, done = todo.pop()
        if done:
            order.append(node)
        elif id(node) not in open_:
            open_.add(id(node))
            todo.append((node, True))
            parts = _core._node_parts(node)
            todo += [(source, False) for source, *_ in reversed(parts[1]) if isinstance(source, _core.Node)]
    uses = {}
    for node in order:
        op = seen.by_id[id(node)] = Op(node, len(seen.ops))
        seen.ops.append(op)
        op.row, inputs, op.constants, op.results = _core._node_parts(node)
        op.inputs = [seen._input(*x) for x in inputs]
        for source, slot, saved, _ in inputs:
            if isinstance(source, _core.Node) and saved is not None and slot not in seen.by_id[id(source)].values:
                seen.by_id[id(source)].values[slot] = Stats(saved)
            if isinstance(source, Tensor) and id(source) in homes:
                home = homes[id(source)]
                parts = home.split(".") if home else []
                count = uses.setdefault(home, {})
                count.setdefault(id(node), len(count) + 1)
                op.group = tuple((".".join(parts[:k + 1]), count[id(node)] if k == len(parts) - 1 else 1)
                                 for k in range(len(parts)))
    by_node = seen.by_id
    handles = []

    def listen(op):
        def arrived(adjoints):
            for k, g in enumerate(adjoints):
                if g is not None:
                    op.adjoints[k] = Stats(g)
                    if k not in op.values and op.results == 1:
                        result = _core._node_result(op.node, g)
                        if result is not None:
                            op.values[0] = Stats(result)
        handles.append(op.node.register_prehook(arrived))
        handles.append(op.node.register_hook(lambda products, adjoints: op.products.update(
            (k, Stats(g)) for k, g in enumerate(products) if g is not None)))
    for op in seen.ops:
        listen(op)
    by_node[id(loss.grad_fn)].values[loss.output_nr] = Stats(loss)
    if loss.numel() == 1:
        _go_backward(loss, seen)
    for handle in handles:
        handle.remove()
    for op in seen.ops:             # scalars that follow from what is known
        if 0 not in op.values and op.row in TABLE and TABLE[op.row].kind == "pointwise":
            known = []
            for x in op.inputs:
                v = (x[1] if x[0] == "number" else seen.leaves[x[1]][1]["value"] if x[0] == "leaf" else x[1] if x[0] == "data"
                     else by_node[x[1]].values.get(x[2]) if x[0] == "op" else None)
                if isinstance(v, Stats):
                    v = None if v.values is None else fastbp.tensor(v.values, dtype=getattr(fastbp, v.dtype))
                known.append(v)
            if known and all(v is not None for v in known):
                try:
                    with fastbp.no_grad():
                        op.values[0] = Stats(getattr(fastbp, op.row)(*known, *op.constants))
                except (TypeError, ValueError, RuntimeError, AttributeError):
                    pass
    return seen


def from_recording(seen, loss=None):
    """A Graph of what a Recording saw that leads to a result."""
    if not seen.ops:
        raise RuntimeError("insight: nothing was recorded: no operation inside had an input that requires grad.")
    if loss is None:
        last = seen.ops[-1]
        if any("grad" in known for _, known in seen.leaves.values()):
            tops = [op for op in seen.ops if op.adjoints]
            last = tops[-1] if tops else last
    else:
        last = seen.by_id.get(id(loss.grad_fn))
        if last is None:
            raise RuntimeError("insight: this tensor was not computed inside the recording.")
    names = dict(seen.names)
    homes = {}
    if seen.model is not None:
        for name, p in seen.model.named_parameters():
            names[id(p)] = name
            homes[id(p)] = name.rpartition(".")[0]
    wanted, todo = {id(last.node)}, [last]
    while todo:
        for x in todo.pop().inputs:
            if x[0] == "op" and x[1] not in wanted and x[1] in seen.by_id:
                wanted.add(x[1])
                todo.append(seen.by_id[x[1]])
    nodes, numbers = [], {}
    places = {}
    for op in seen.ops:
        for x in op.inputs:
            if x[0] == "data":
                places.setdefault(x[2], set()).add(op.group[:1])
    shared = {key for key, groups in places.items() if len(groups) > 1}

    def new(kind, op=""):
        node = GraphNode(len(nodes), kind, op)
        nodes.append(node)
        return node

    back = sorted((op for op in seen.ops if op.ran), key=lambda op: op.ran)
    rank = {id(op): k for k, op in enumerate(back)}
    for op in seen.ops:
        if id(op.node) not in wanted:
            continue
        row = TABLE.get(op.row)
        inputs, slots = [], []
        for x in op.inputs:
            if x[0] == "unknown":
                inputs.append(None)
                slots.append(0)
                continue
            key = (id(op), len(inputs)) if x[0] == "number" else x[2] if x[0] == "data" else x[1]
            if key not in numbers:
                n = new({"number": "number", "data": "data", "leaf": "leaf", "op": "op"}[x[0]])
                numbers[key] = n.id
                n.group = op.group
                if x[0] == "leaf":
                    _, known = seen.leaves[x[1]]
                    n.value, n.grad, n.update = known["value"], known.get("grad"), known.get("update")
                    n.name = names.get(x[1], "")
                    if x[1] in homes:       # beside the module that owns it
                        home = homes[x[1]]
                        n.group = tuple(c for c in op.group if not c[0] or home == c[0] or home.startswith(c[0] + "."))
                elif x[0] == "data":
                    n.value, n.name = x[1], names.get(x[2], "")
                    if n.name or x[2] in shared:        # from outside; what a module makes for itself stays in it
                        n.group = ()
                elif x[0] == "number":
                    n.value = Stats(float(x[1]))
                else:                       # made before the recording began
                    n.kind, n.name = "data", names.get(x[1], "")
            inputs.append(numbers[key])
            slots.append(x[2] if x[0] == "op" else 0)
        n = new("op", op.row)
        numbers[id(op.node)] = n.id
        keep = [k for k, x in enumerate(inputs) if x is not None]
        place = {k: j for j, k in enumerate(keep)}
        n.inputs, n.slots = [inputs[k] for k in keep], [slots[k] for k in keep]
        n.name = names.get(id(op.node), "")
        n.group = op.group
        n.constants = list(op.constants)
        n.value = op.values.get(0)
        n.grad = op.adjoints.get(0)
        n.products = {place[k]: s for k, s in op.products.items() if k in place}
        n.time, n.back_time = op.time, op.back_time
        n.back_order = rank.get(id(op))
        n.line, n.code = line_of(op.place)
        if row is not None:
            n.formula = row.doc
            n.arguments = [row.tensors[k].name if k < len(row.tensors) else "" for k in keep]
            rules = derivatives(row)
            n.rules = [(a, rules.get(a, "")) for a in n.arguments]
        if n.grad is not None and n.grad.scalar not in (None, 0) and n.value is not None and n.value.scalar is not None:
            for k, s in n.products.items():
                if s.scalar is not None:
                    n.local[k] = s.scalar / n.grad.scalar
    for position, n in enumerate(reversed(nodes)):      # without times: the reverse of the forward pass
        if n.back_order is None:
            n.back_order = position
    top = nodes[numbers[id(last.node)]]
    if not top.name:                # `E = ...` in its line
        said = re.match(r"(\w+)\s*=[^=]", top.code) if "lambda" not in top.code else None
        top.name = said[1] if said else "loss"
    taken = {}
    for n in nodes:                 # x = f(x): the second x is another node
        if n.name:
            taken[n.name] = count = taken.get(n.name, 0) + 1
            if count > 1:
                n.name += "".join("₀₁₂₃₄₅₆₇₈₉"[int(c)] for c in str(count))
    calls = {n.group[:k] for n in nodes for k in range(1, len(n.group) + 1)}
    kinds = dict(seen.modules.kinds)
    if seen.model is not None:
        kinds = {name: type(m).__name__ for name, m in seen.model.named_modules()}
    groups = {g: kinds.get(g[-1][0], "") for g in sorted(calls)}
    return Graph(nodes, numbers[id(last.node)], groups, kinds.get("", "") or "graph")


# ---- reading it -----------------------------------------------------------------------------------------------------


class Blame(list):
    """(name, contribution) in falling order; prints as a table."""

    def __repr__(self):
        width = max((len(name) for name, _ in self), default=0)
        top = max((value for _, value in self), default=0) or 1
        return "\n".join(f"{name:{width}}  {short(value):>10}  {'█' * round(20 * value / top)}" for name, value in self)


def blame(loss, k=10, *, model=None):
    """Which parameters and inputs the result depends on most: the change of the loss when all of a tensor changes by one part in
    a hundred, to first order: 0.01 · Σ |∂E/∂θ · θ|.

    Args: loss: Tensor or Graph; k: how many; model: for names.
    Returns: list of (name, contribution), the largest first.

    >>> a, b = (fastbp.tensor(v, requires_grad=True) for v in (1.0, 10.0))
    >>> fastbp.insight.blame(a * 2 + b * 3)
    b         0.3  ████████████████████
    a        0.02  █
    """
    if isinstance(loss, Graph):
        leaves = [(n.name or f"v{n.id}", n.grad.norm * n.value.norm) for n in loss.nodes
                  if n.kind == "leaf" and n.grad is not None and n.value is not None]
        return Blame(sorted(((name, 0.01 * v) for name, v in leaves), key=lambda x: -x[1])[:k])
    if not isinstance(loss, Tensor):
        raise TypeError(f"insight.blame: expected a Tensor or a Graph, got {type(loss).__name__}.")
    seen = Recording(model)
    seen.names = names_in(sys._getframe(1))
    if model is not None:
        seen.names.update((id(p), name) for name, p in model.named_parameters())
    todo, visited, leaves = [loss.grad_fn], set(), {}
    while todo:
        node = todo.pop()
        if node is None or id(node) in visited:
            continue
        visited.add(id(node))
        for source, *_ in _core._node_parts(node)[1]:
            if isinstance(source, Tensor):
                leaves[id(source)] = source
            else:
                todo.append(source)
    leaves = [t for t in leaves.values() if t.requires_grad]
    found = _core._grad([loss], leaves, None, True, False, True)
    out = [(seen.names.get(id(t), f"leaf {list(t.shape)}"), 0.01 * (t.detach() * g).abs().sum().item())
           for t, g in zip(leaves, found) if g is not None]
    return Blame(sorted(out, key=lambda x: -x[1])[:k])


class Difference(list):
    """(name, what, before, after, relative change) in falling order; prints as a table."""

    def __repr__(self):
        if not self:
            return "no difference"
        width = max(len(d[0]) for d in self)
        return "\n".join(f"{name:{width}}  {what:8}  {short(a) if a is not None else '-':>10} → "
                         f"{short(b) if b is not None else '-':<10}  {short(100 * change, 3)} %"
                         for name, what, a, b, change in self[:40])


def diff(before, after, tolerance=0.0):
    """What changed between two steps: values and gradients of nodes with the same place, by norm (scalars by value).

    Args: before, after: Graphs; tolerance: relative changes up to it are left out.
    Returns: list of (name, "value" or "gradient" or "only in ...", before, after, relative change), the largest first.

    >>> w = fastbp.tensor(1.0, requires_grad=True)
    >>> first = fastbp.insight.graph(w * w)
    >>> w.data += 1
    >>> fastbp.insight.diff(first, fastbp.insight.graph(w * w))
    loss  value              1 → 4           300 %
    w     value              1 → 2           100 %
    w     gradient           2 → 4           100 %
    """
    def keyed(g):
        count, out = {}, {}
        for n in g.nodes:
            if n.kind != "number":
                key = (n.group, n.kind, n.op, n.name)
                count[key] = count.get(key, 0) + 1
                out[key + (count[key],)] = (g.label(n.id), n)        # noqa: RUF005, Python 3.10
        return out
    a, b = keyed(before), keyed(after)
    out = []
    for key, (name, n) in a.items():
        if key not in b:
            out.append((name, "only in the first", None, None, float("inf")))
            continue
        m = b[key][1]
        for what, x, y in (("value", n.value, m.value), ("gradient", n.grad, m.grad)):
            if x is None or y is None:
                continue
            p, q = (x.norm, y.norm) if x.scalar is None or y.scalar is None else (x.scalar, y.scalar)
            change = abs(q - p) / abs(p) if p else (0.0 if q == p else float("inf"))
            if change > tolerance or change != change:
                out.append((name, what, p, q, change))
    out += [(name, "only in the second", None, None, float("inf")) for key, (name, _) in b.items() if key not in a]
    return Difference(sorted(out, key=lambda d: -d[4]))
