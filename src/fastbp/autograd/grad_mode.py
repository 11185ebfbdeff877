"""Floor 3, autograd: switching the tape on and off.  The switch is the core's; it belongs to the running thread."""

import functools

from fastbp._core import _set_grad_mode, is_grad_enabled

__all__ = ["enable_grad", "inference_mode", "is_grad_enabled", "no_grad", "set_grad_enabled", "set_multithreading_enabled"]

_GENERATOR = 0x20       # CO_GENERATOR: the function's body runs between the calls of next()


class _GradMode:
    """A block, or with a function as its argument a decorator, that runs with the tape on or off."""

    mode = True

    def __new__(cls, orig_func=None):
        self = object.__new__(cls)
        return self if orig_func is None else self(orig_func)

    def __enter__(self):
        self.previous = _set_grad_mode(self.mode)

    def __exit__(self, *exception):
        _set_grad_mode(self.previous)

    def _again(self):
        """A fresh context: decorated functions may call themselves."""
        return type(self)()

    def clone(self):
        """A fresh context of the same mode."""
        return self._again()

    def __call__(self, function):
        code = getattr(function, "__code__", None)
        if code is not None and code.co_flags & _GENERATOR:
            @functools.wraps(function)
            def decorated(*args, **kwargs):
                return _run_generator(function(*args, **kwargs), self._again)
        else:
            @functools.wraps(function)
            def decorated(*args, **kwargs):
                with self._again():
                    return function(*args, **kwargs)
        return decorated


def _run_generator(generator, context):
    """Passes a generator on; the mode holds while its body runs and not while it waits."""
    resume, value = generator.send, None
    while True:
        try:
            with context():
                item = resume(value)
        except StopIteration as stop:
            return stop.value
        try:
            resume, value = generator.send, (yield item)
        except GeneratorExit:
            with context():
                generator.close()
            raise
        except BaseException as error:
            resume, value = generator.throw, error


class no_grad(_GradMode):
    """A block or decorator inside which operations are not put on the tape: results do not require grad.

    Source: torch.no_grad

    >>> import fastbp
    >>> x = fastbp.tensor(1.0, requires_grad=True)
    >>> with no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """

    mode = False


class enable_grad(_GradMode):
    """A block or decorator inside which operations are put on the tape, also within `no_grad`.

    Source: torch.enable_grad

    >>> import fastbp
    >>> x = fastbp.tensor(1.0, requires_grad=True)
    >>> with no_grad(), enable_grad():
    ...     y = x * 2
    >>> y.requires_grad
    True
    """


class set_grad_enabled(_GradMode):
    """Switches the tape on or off: at once when called, until the end of the block with `with`, or as a decorator.

    Args: mode: whether operations are put on the tape.
    Source: torch.set_grad_enabled

    >>> import fastbp
    >>> with set_grad_enabled(False):
    ...     is_grad_enabled()
    False
    """

    def __new__(cls, mode):
        return object.__new__(cls)

    def __init__(self, mode):
        self.mode = bool(mode)
        self.previous = _set_grad_mode(self.mode)

    def __enter__(self):
        _set_grad_mode(self.mode)

    def __call__(self, function):
        _set_grad_mode(self.previous)       # as a decorator it must not act at once
        return super().__call__(function)

    def _again(self):
        return (enable_grad if self.mode else no_grad)()


class inference_mode(_GradMode):
    """The same as `no_grad` here: tensors made inside may be used anywhere.

    Args: mode: False leaves the tape as it is.
    Source: torch.inference_mode
    """

    def __new__(cls, mode=True):
        self = object.__new__(cls)
        if isinstance(mode, bool):
            return self
        self.active = True
        return self(mode)

    def __init__(self, mode=True):
        self.active = mode

    def __enter__(self):
        self.previous = _set_grad_mode(is_grad_enabled() and not self.active)

    def _again(self):
        return type(self)(self.active)


class set_multithreading_enabled:
    """Accepted: a backward pass runs on the thread that asks for it; its kernels use the threads of set_num_threads.

    Source: torch.autograd.grad_mode.set_multithreading_enabled
    """

    def __init__(self, mode):
        self.mode = bool(mode)

    def __enter__(self):
        return None

    def __exit__(self, *exception):
        return None
