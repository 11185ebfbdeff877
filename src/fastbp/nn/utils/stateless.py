"""Floor 3, nn: a module called with other tensors in place of its parameters and buffers."""

from fastbp._core import stack

__all__ = ["functional_call", "stack_module_state"]


def _places(module):
    """{path: (owner, room, name)} of all parameters and buffers; None entries are left out."""
    found = {}
    for prefix, owner in module.named_modules(remove_duplicate=False):
        for room in (owner._parameters, owner._buffers):
            for name, tensor in room.items():
                if tensor is not None:
                    found[f"{prefix}.{name}" if prefix else name] = (owner, room, name)
    return found


def functional_call(module, parameters_and_buffers, args=None, kwargs=None, *, tie_weights=True, strict=False):
    """Calls a module with the given tensors in place of its parameters and buffers; the module itself stays as it is.

    Args:
        parameters_and_buffers: dictionary of path -> Tensor, or a tuple of such dictionaries with different keys.
        args, kwargs: of the call; args may be a single value instead of a tuple.
        tie_weights: a tensor that the module has under several names is replaced under all of them.
        strict: raise when names are missing or unknown.
    Returns: what the module returns.  A buffer that the call replaces is put into the dictionary.
    Errors: ValueError for a name in two dictionaries, or different tensors for one tied one; RuntimeError when strict.
    Source: torch.func.functional_call

    >>> import fastbp
    >>> layer = fastbp.nn.Linear(1, 1)
    >>> functional_call(layer, {"weight": fastbp.full((1, 1), 2.0), "bias": fastbp.ones(1)}, fastbp.ones(1)).item()
    3.0
    """
    dictionaries = parameters_and_buffers if isinstance(parameters_and_buffers, (tuple, list)) else (parameters_and_buffers,)
    given = {}
    for d in dictionaries:
        if not hasattr(d, "items"):
            raise ValueError("Expected all elements of parameter_and_buffer_dicts to be dictionaries")
        for name, tensor in d.items():
            if name in given:
                raise ValueError(f"{name} appears in multiple dictionaries; behavior of functional call is ambiguous")
            given[name] = tensor
    places = _places(module)
    tied = {}           # id of the module's tensor -> its names
    if tie_weights:
        for name, (_, room, key) in places.items():
            tied.setdefault(id(room[key]), []).append(name)
    new = {}
    for name, tensor in given.items():
        place = places.get(name)
        names = tied.get(id(place[1][place[2]]), [name]) if place else [name]
        for other in names:
            if other in new and new[other] is not tensor and other in given and given[other] is not tensor:
                raise ValueError(f"functional_call got multiple values for keys {sorted(names)}, which are tied. Consider using "
                                 "tie_weights=False")
            if other == name or other not in given:
                new[other] = tensor
    if strict:
        unexpected, missing = sorted(set(new) - set(places)), sorted(set(places) - set(new))
        if unexpected or missing:
            parts = [f"Unexpected key(s): {', '.join(unexpected)}."] if unexpected else []
            parts += [f"Missing key(s): {', '.join(missing)}."] if missing else []
            raise RuntimeError(f"Error(s) in reparametrizing for {type(module).__name__}: " + " ".join(parts))
    for name in new:
        if name not in places and name.rpartition(".")[2] == "":
            raise AttributeError(f"functional_call: {name!r} is no name of a parameter or buffer")
    args = () if args is None else args if isinstance(args, tuple) else (args,)
    saved = [(places[name], places[name][1][places[name][2]], name) for name in new if name in places]
    try:
        for (_, room, key), _, name in saved:
            room[key] = new[name]
        return module(*args, **(kwargs or {}))
    finally:
        for (_, room, key), old, name in saved:
            if room[key] is not new[name] and name in given:        # the call replaced it, as batch norm replaces its counter
                for d in dictionaries:
                    if name in d and room[key] is not None:
                        d[name] = room[key]
            room[key] = old


def stack_module_state(models):
    """Parameters and buffers of several modules of one architecture, each stacked along a new first dimension.

    Args: models: a list of modules of one class, all in training or all in evaluation.
    Returns: (parameters, buffers), dictionaries of path -> Tensor; stacked parameters are new leaves.
    Errors: RuntimeError for no models, or models that differ.
    Source: torch.func.stack_module_state

    >>> import fastbp
    >>> params, buffers = stack_module_state([fastbp.nn.Linear(2, 3) for _ in range(4)])
    >>> tuple(params["weight"].shape), buffers
    ((4, 3, 2), {})
    """
    models = list(models)
    if not models:
        raise RuntimeError("stack_module_state: Expected at least one model, got 0.")
    if any(m.training != models[0].training for m in models):
        raise RuntimeError("stack_module_state: Expected all models to have the same training/eval mode.")
    if any(type(m) is not type(models[0]) for m in models):
        raise RuntimeError("stack_module_state: Expected all models to be of the same class.")

    def stacked(name, tensors):
        flags = {t.requires_grad for t in tensors}
        if len(flags) > 1:
            raise RuntimeError(f"Expected {name} from each model to have the same .requires_grad")
        return stack([t.detach() for t in tensors]).requires_grad_(flags.pop())
    params = [dict(m.named_parameters()) for m in models]
    buffers = [dict(m.named_buffers()) for m in models]
    return ({name: stacked(name, [p[name] for p in params]) for name in params[0]},
            {name: stacked(name, [b[name] for b in buffers]) for name in buffers[0]})
