# Attributes of a user's list or dict, what a UserDict or a bytearray of the user's class holds, and
# a long list of the user's class, a deque or an exception changed, and no guard saw it.
import collections
import functools
import operator

from tracejit.testing.programs import attempt, make


class Floats(list):
    rate = 1.0


class Config(dict):
    pass


class Table(collections.UserDict):
    pass


class Row(collections.UserList):
    pass


class Bytes(bytearray):
    pass


class Part(functools.partial):
    pass


LONG = Floats([float(i) for i in range(100)])
QUEUE = collections.deque([1.0] * 100, maxlen=100)
SETTINGS = Config(a=2.0)
SETTINGS.scale = 0.5
TABLE = Table(a=1.0)
ROW = Row([1.0, 2.0])
BYTES = Bytes(b"abc")
PART = Part(operator.mul, 2.0)
PART.extra = 1.0
ERROR = ValueError(1.0)


def f(x, which):
    if which == 0:
        return x * LONG[3] + LONG.rate
    if which == 1:
        return x * QUEUE[2] * (2 if QUEUE[3] is True else 1)
    if which == 2:
        return x * SETTINGS["a"] * SETTINGS.scale
    if which == 3:
        return x * TABLE["a"] + ROW[0] * len(ROW)
    if which == 4:
        return PART(x) + PART.extra * ERROR.args[0]
    return x * BYTES[1]


def run(f):
    global TABLE
    x = make("float32", (3,), 0)
    for which in range(6):
        yield attempt(f, x, which), attempt(f, x, which)
    LONG[3], QUEUE[3], SETTINGS.scale, TABLE["a"], BYTES[1] = 9.0, True, 3.0, 4.0, 7
    for which in range(6):
        yield attempt(f, x, which), attempt(f, x, which)
    Floats.rate, SETTINGS["a"], TABLE = 2.0, 7.0, Table(a=6.0)
    QUEUE.append(5.0)
    PART.extra = 5.0
    ROW.append(3.0)
    ERROR.args = (4.0,)
    for which in range(6):
        yield attempt(f, x, which), attempt(f, x, which)
