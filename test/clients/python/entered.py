"""What the tests enter of the client: its public functions, methods and properties are told when they are called, and its classes when there
is an object of them. It looks at calls as a profiler does, so the client is the one that was installed, and nothing of it is replaced."""

import inspect
import sys
import threading

import cwsandbox

# Methods that are public without a name of their own: syntax calls them.
SYNTAX = {"__aenter__", "__aexit__", "__aiter__", "__anext__", "__await__", "__bool__", "__enter__", "__exit__", "__iter__", "__next__"}

seen: set[str] = set()


def surface():
    """Every public name with the code that is entered, None for an exception: those have their base's."""
    for name in cwsandbox.__all__:
        it = getattr(cwsandbox, name)
        if inspect.isfunction(it):
            yield name, it.__code__
        elif inspect.isclass(it) and issubclass(it, BaseException):
            yield name, None
        elif inspect.isclass(it):
            yield from members(name, it)


def members(name, cls):
    for member, value in vars(cls).items():
        function = getattr(value, "fget", None) or getattr(value, "__func__", value)
        if not inspect.isfunction(function):
            continue
        if member == "__init__":
            yield name, function.__code__
        elif member in SYNTAX or not member.startswith("_"):
            yield f"{name}.{member}", function.__code__


# By identity: the constructors of two classes with the same fields are equal.
CODES = {id(code): name for name, code in surface() if code is not None}
RAISED = cwsandbox.CWSandboxError.__init__.__code__


def hook(frame, event, _):
    if event == "call":
        if (name := CODES.get(id(frame.f_code))) is not None:
            seen.add(name)
        elif frame.f_code is RAISED:
            seen.add(type(frame.f_locals["self"]).__name__)


def watch():
    """Looks from here on, in this thread and those that it starts."""
    threading.setprofile(hook)
    sys.setprofile(hook)
