"""Floor 3: where the value of a call goes: whether a number, list or array is returned and nothing else.

A function that ends with `return loss.item()` can be replayed, if its number is read when the program has run; one that looks
at the number on its way cannot.  Which of the two it is stands in its bytecode: from the call that is running, all ways to
the end of the function are followed, with the places on the stack and the variables that hold the value.  An instruction that
is not known here, or takes the value for anything but a container, a variable or the result, answers no.
"""

import bisect
import functools
import sys

_NEW = sys.version_info >= (3, 12)
_KNOWN = sys.version_info < (3, 15)     # from 3.15 on iterators take two places on the stack: unknown, so eager
_PEEKS = {"locals", "vars", "eval", "exec", "dir", "_getframe"}        # see variables without naming them

_MOVES = {      # name -> values taken off the stack, values put on it
    **dict.fromkeys(("NOP", "RESUME", "PRECALL", "KW_NAMES", "EXTENDED_ARG", "CACHE", "NOT_TAKEN", "DELETE_GLOBAL"), (0, 0)),
    **dict.fromkeys(("LOAD_CONST", "LOAD_DEREF", "LOAD_CLOSURE", "LOAD_NAME", "LOAD_SMALL_INT", "PUSH_NULL",
                     "LOAD_ASSERTION_ERROR", "LOAD_COMMON_CONSTANT"), (0, 1)),
    **dict.fromkeys(("GET_ITER", "UNARY_NOT", "UNARY_NEGATIVE", "UNARY_INVERT", "TO_BOOL"), (1, 1)),
    **dict.fromkeys(("BINARY_OP", "COMPARE_OP", "IS_OP", "CONTAINS_OP", "BINARY_SUBSCR"), (2, 1)),
    **dict.fromkeys(("STORE_GLOBAL", "STORE_NAME", "STORE_DEREF"), (1, 0)),
    "STORE_ATTR": (2, 0), "STORE_SUBSCR": (3, 0), "BEFORE_WITH": (1, 2), "LOAD_METHOD": (1, 2), "LOAD_SPECIAL": (1, 2),
    "POP_ITER": (1, 0), "BINARY_SLICE": (3, 1), "STORE_SLICE": (4, 0),
}
_CALLS = {"CALL": 2, "CALL_FUNCTION": 1, "CALL_METHOD": 2, "CALL_KW": 3, "CALL_FUNCTION_KW": 2}     # operands besides arguments


def _moves(name, arg):
    """(taken, put) of an instruction that only takes values and puts others; None for one that is not known."""
    if name in _CALLS:
        return arg + _CALLS[name], 1
    if name == "CALL_FUNCTION_EX":
        return (4 if sys.version_info >= (3, 14) else 3 + (arg & 1) if sys.version_info >= (3, 11) else 2 + (arg & 1)), 1
    if name == "LOAD_GLOBAL":
        return 0, 1 + (arg & 1 if sys.version_info >= (3, 11) else 0)
    if name == "LOAD_ATTR":
        return 1, 1 + (arg & 1 if _NEW else 0)
    if name == "BUILD_SLICE":
        return arg, 1
    if name == "UNPACK_SEQUENCE":
        return 1, arg
    return _MOVES.get(name)


@functools.lru_cache(256)
def flows_to_result(code, last):
    """Whether the value of the call at offset `last` of a code object gets into its result and nowhere else."""
    import dis  # here: it takes milliseconds to import
    steps = list(dis.get_instructions(code))
    at = {step.offset: k for k, step in enumerate(steps)}
    first = bisect.bisect(steps, last, key=lambda step: step.offset) - 1       # `last` may lie in the caches behind the call
    if first >= 0 and steps[first].opname == "PRECALL":         # Python 3.11 makes some calls here
        first += 1
    if not _KNOWN or first < 0 or steps[first].opname not in (*_CALLS, "CALL_FUNCTION_EX") or _PEEKS & set(code.co_names):
        return False
    todo, seen = [(first + 1, (True,), frozenset())], set()
    while todo:
        way = todo.pop()
        if way in seen:
            continue
        seen.add(way)
        k, stack, held = way
        if k >= len(steps) or len(seen) > 5000:
            return False
        step, stack = steps[k], list(stack)
        name, arg = step.opname, step.arg or 0
        names = step.argval if isinstance(step.argval, tuple) else (step.argval,)

        def take(n, stack=stack):
            taken = stack[len(stack) - n:] if n <= len(stack) else stack[:]
            del stack[max(len(stack) - n, 0):]
            return any(taken)

        following = [k + 1]
        if name in ("RETURN_VALUE", "RETURN_CONST"):
            continue
        if name in ("RAISE_VARARGS", "RERAISE"):
            if any(stack):
                return False
            continue
        if name.startswith(("LOAD_FAST", "STORE_FAST")) and name != "LOAD_FAST_AND_CLEAR":
            kinds = [word for word in name.split("_") if word in ("LOAD", "STORE")]
            for kind, variable in zip(kinds, names):
                if kind == "LOAD":
                    stack.append(variable in held)
                else:
                    held = held | {variable} if take(1) else held - {variable}
        elif name == "DELETE_FAST":
            held = held - {names[0]}
        elif name == "POP_TOP":
            take(1)
        elif name in ("SWAP", "COPY"):
            stack = [False] * (arg - len(stack)) + stack
            if name == "COPY":
                stack.append(stack[-arg])
            else:
                stack[-1], stack[-arg] = stack[-arg], stack[-1]
        elif name in ("BUILD_TUPLE", "BUILD_LIST", "BUILD_MAP", "BUILD_CONST_KEY_MAP"):
            stack.append(take({"BUILD_MAP": 2 * arg, "BUILD_CONST_KEY_MAP": arg + 1}.get(name, arg)))
        elif name.startswith("JUMP_") and "_IF_" not in name:
            following = [at[step.argval]]
        elif name.startswith("POP_JUMP_"):
            if take(1):
                return False
            following.append(at[step.argval])
        elif name == "FOR_ITER":     # 3.12 and later end behind END_FOR, from 3.13 on with the iterator still there
            end = at[step.argval] + (steps[at[step.argval]].opname == "END_FOR")
            todo.append((end, tuple(stack if sys.version_info >= (3, 13) else stack[:-1]), held))
            stack.append(False)
        else:
            moves = _moves(name, arg)
            if moves is None or take(moves[0]):
                return False
            stack += [False] * moves[1]
        todo += [(f, tuple(stack), held) for f in following]
    return True


def only_returned(ends):
    """Whether the number that is being read now is returned, by all functions between here and one of the codes in `ends`."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code not in ends:
        if not flows_to_result(frame.f_code, frame.f_lasti):
            return False
        frame = frame.f_back
    return frame is not None
