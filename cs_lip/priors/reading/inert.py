"""Pickles read as data: what they describe is written down, and nothing of it is ever looked up, called or set.

A pickle is a program for a stack machine (Python's ``pickletools`` documents every instruction). `interpret` follows
it, but a name stays a `Name`, and where Python would call something the result is a `Made`, which records what would
have been called with which arguments. So no code of anybody's runs, whatever the pickle names.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

MAX_INSTRUCTIONS = 2_000_000
"""In one pickle; a published network has about a tenth of this. Each costs some hundred bytes of memory at most."""

MAX_KEY = 2**32
"""Of the whole numbers that are keys of dictionaries."""


@dataclass(frozen=True)
class Name:
    """What a pickle names and Python would have looked up."""

    path: str


@dataclass(eq=False)
class Made:
    """What Python would have made by a call.

    Attributes:
        path: the name of what would have been called; empty where that is no name.
        arguments: of that call.
        state: what the object would have been given afterwards; None where nothing.
        items: what would have been put into it by key.
    """

    path: str
    arguments: tuple[Any, ...]
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Outside:
    """What a pickle refers to but does not hold, by the words it uses for that."""

    reference: Any


def interpret(file: IO[bytes]) -> Any:
    """What one pickle describes, from the file's position on to the pickle's end.

    Plain values come as they are, a set as a list, and all else as `Name`, `Made` or `Outside`.

    Raises:
        ValueError: it is damaged, too long, or uses an instruction that no network is written with.
    """
    machine = _Machine()
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count > MAX_INSTRUCTIONS:
                raise _damaged(f"it has more than {MAX_INSTRUCTIONS} instructions")
            if opcode.name == "STOP":
                return machine.pop()
            machine.follow(opcode.name, argument)
    except _DamagedError:
        raise
    except (ValueError, TypeError, LookupError, OverflowError) as error:
        raise _damaged(" ".join(str(error).split())[:120]) from None
    raise _damaged("it has no end")


class _DamagedError(ValueError):
    """Why a pickle cannot be followed, in a whole sentence."""


def _damaged(reason: str) -> ValueError:
    return _DamagedError(f"the pickle cannot be followed ({reason}); try the file as its author published it")


class _Machine:
    """The stack, the marks on it, and the memo."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def follow(self, name: str, argument: Any) -> None:
        """Follow one instruction."""
        if name in _VALUES:
            self.push(argument)
        elif name in _CONSTANTS:
            self.push(_CONSTANTS[name])
        elif name in _MEMOISE:
            self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]
        elif name in _RECALL:
            self.push(self.memo[argument])
        elif name == "GLOBAL":
            self.push(Name(argument.replace(" ", ".")))
        elif name in _ACTIONS:
            _ACTIONS[name](self)
        elif name not in ("PROTO", "FRAME"):
            raise _damaged(f"it has the instruction {name}")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        return self.stack.pop()

    def mark(self) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        """What lies above the last mark, taken off together with it."""
        items, self.stack = self.stack, self.marked.pop()
        return items

    def tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise _damaged("it takes more from the stack than is there")
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def extend(self, items: list[Any]) -> None:
        # What is put into a list of some other kind is of no use here.
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def put(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        table = target.items if isinstance(target, Made) else target
        if not isinstance(table, dict) or len(pairs) % 2:
            raise _damaged("it puts items where none can be")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            # A tuple of tuples of tuples ... may take forever to hash, and large numbers can all have one hash.
            if not isinstance(key, str | int | bytes | None) or (isinstance(key, int) and abs(key) > MAX_KEY):
                raise _damaged(f"it has a key that is a {type(key).__name__}")
            table[key] = value

    def named(self) -> None:
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise _damaged("it has a name that is no text")
        self.push(Name(f"{module}.{name}"))

    def call(self) -> None:
        arguments, called = self.pop(), self.pop()
        path = called.path if isinstance(called, Name) else ""
        self.push(Made(path, arguments if isinstance(arguments, tuple) else ()))

    def call_with_names(self) -> None:
        self.pop()
        self.call()

    def build(self) -> None:
        state = self.pop()
        if not isinstance(self.stack[-1], Made):
            raise _damaged("it gives a state to what has none")
        self.stack[-1].state = state


_VALUES = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_MEMOISE = {"MEMOIZE", "BINPUT", "LONG_BINPUT"}
_RECALL = {"BINGET", "LONG_BINGET"}
_ACTIONS: dict[str, Callable[[_Machine], Any]] = {
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.since_mark,
    "TUPLE": lambda machine: machine.push(tuple(machine.since_mark())),
    "TUPLE1": lambda machine: machine.tuple_of(1),
    "TUPLE2": lambda machine: machine.tuple_of(2),
    "TUPLE3": lambda machine: machine.tuple_of(3),
    "EMPTY_LIST": lambda machine: machine.push([]),
    "EMPTY_SET": lambda machine: machine.push([]),
    "FROZENSET": lambda machine: machine.push(machine.since_mark()),
    "EMPTY_DICT": lambda machine: machine.push({}),
    "APPEND": lambda machine: machine.extend([machine.pop()]),
    "APPENDS": lambda machine: machine.extend(machine.since_mark()),
    "ADDITEMS": lambda machine: machine.extend(machine.since_mark()),
    "SETITEM": lambda machine: machine.put([*reversed([machine.pop(), machine.pop()])]),
    "SETITEMS": lambda machine: machine.put(machine.since_mark()),
    "STACK_GLOBAL": _Machine.named,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "NEWOBJ_EX": _Machine.call_with_names,
    "BUILD": _Machine.build,
    "BINPERSID": lambda machine: machine.push(Outside(machine.pop())),
}
"""All other instructions. Those left out are of the first protocols (written as text), or of registered extensions."""
