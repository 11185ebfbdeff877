"""Floor 3, utils: the handle that registering a hook returns."""

import weakref
from itertools import count

__all__ = ["RemovableHandle"]

_numbers = count()


class RemovableHandle:
    """Removes a hook from the dictionaries that hold it: `handle.remove()`, or at the end of `with handle:`.

    Args:
        hooks_dict: dictionary of hooks, keyed by `handle.id`; held weakly.
        extra_dict: dictionary, or list of them, with further entries under the same key.
    Source: torch.utils.hooks.RemovableHandle

    >>> from collections import OrderedDict
    >>> hooks = OrderedDict()
    >>> handle = RemovableHandle(hooks)
    >>> hooks[handle.id] = print
    >>> handle.remove()
    >>> len(hooks)
    0
    """

    def __init__(self, hooks_dict, *, extra_dict=None):
        self.id = next(_numbers)
        extra = [] if extra_dict is None else [extra_dict] if isinstance(extra_dict, dict) else list(extra_dict)
        self._dicts = [weakref.ref(d) for d in (hooks_dict, *extra)]

    def remove(self):
        """Forgets the hook; calling it again does nothing."""
        for reference in self._dicts:
            hooks = reference()
            if hooks is not None:
                hooks.pop(self.id, None)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.remove()
