"""The command ``tracejit``: demo, compare, dump, cache, run, minimize, fuzz,
doctor.

Invariant: a user's mistake ends in one line on stderr and exit status 2, not in a traceback.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

import tracejit
from tracejit import config
from tracejit.inspect import arguments, compare, doctor
from tracejit.inspect.load import load_function
from tracejit.jit.compile import CompiledFunction, compile
from tracejit.testing import fuzz, reproduce

_TYPES_HELP = "a type (f32[32,784]: random values; i64[32]: 0 to 9) or a number for each argument"


_MISTAKES = (TypeError, ValueError, IndexError, RuntimeError)
"""Errors of a user's function whose message names the line already."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; its exit status."""
    options = _parser().parse_args(argv)
    try:
        return int(options.run(options))
    except UsageError as error:
        print(f"tracejit: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output has gone: `tracejit ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


class UsageError(Exception):
    """What the user asked for cannot be done; the message is all they need."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tracejit", description=tracejit.__doc__.split("\n")[0])
    parser.add_argument("--version", action="version", version=f"tracejit {tracejit.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    demo = commands.add_parser("demo", help="train on handwritten digits, eagerly and compiled")
    demo.add_argument("--epochs", type=_positive, default=20)
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument("--device", default="cpu", help="cpu, cuda, or sim: a simulated GPU")
    demo.set_defaults(run=_demo)
    for name, run, text in (
        ("compare", _compare, "time a function eagerly and compiled, and compare the results"),
        ("dump", _dump, "print the IR of a function"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("place", metavar="FILE.py:FUNCTION")
        command.add_argument("arguments", nargs="*", metavar="ARGUMENT", help=_TYPES_HELP)
        command.set_defaults(run=run)
        if name == "dump":
            command.add_argument("--stage", default="captured", help="captured, a pass, plan, all")
            command.add_argument("--backward", action="store_true", help="the gradients' graph")
            command.add_argument("--kernels", action="store_true", help="the kernels' source too")
    cache = commands.add_parser("cache", help="the kernels kept on disk")
    cache.add_argument("action", choices=("info", "clear"))
    cache.set_defaults(run=_cache)
    for name, run, text in (
        ("run", _run, "run a reproducer: does compiled still differ from eager?"),
        ("minimize", _minimize, "make a reproducer smaller, in its place"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("file", metavar="FILE.py")
        command.set_defaults(run=run)
    fuzz_ = commands.add_parser("fuzz", help="random programs, eager against compiled")
    fuzz.add_arguments(fuzz_)
    fuzz_.set_defaults(run=fuzz.command)
    doctor_ = commands.add_parser("doctor", help="versions, processor, threads, libraries, cache")
    doctor_.set_defaults(run=lambda options: doctor.main(sys.stdout))
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("expected a number from 1 on")
    return value


def _demo(options: Any) -> int:
    from tracejit import demo  # its imports are not the other commands' business

    return demo.main(options.epochs, options.seed, sys.stdout, options.device)


def _target(options: Any, requires_grad: bool = False) -> tuple[Any, list[Any]]:
    """The function and its arguments; UsageError says what is wrong."""
    try:
        function = load_function(options.place)
        values = [arguments.make(text, requires_grad) for text in options.arguments]
    except (FileNotFoundError, ValueError, AttributeError, ImportError, SyntaxError) as error:
        raise UsageError(error) from None
    if not callable(function):
        raise UsageError(f"{options.place} is no function")
    return function, values


def _compare(options: Any) -> int:
    function, values = _target(options)
    try:
        compare(function, *values)
    except _MISTAKES as error:
        raise UsageError(f"{options.place}: {error}") from None
    return 0


def _dump(options: Any) -> int:
    function, values = _target(options, requires_grad=options.backward)
    compiled = function if isinstance(function, CompiledFunction) else compile(function)
    try:
        for _ in range(3):  # an optimizer makes its state in the first call
            compiled(*values)
        print(compiled.ir(options.stage, backward=options.backward))
    except _MISTAKES as error:
        raise UsageError(f"{options.place}: {error}") from None
    for kernel in compiled.kernels if options.kernels else ():
        print(f"\n{kernel.source}")
    return 0


def _run(options: Any) -> int:
    try:
        problem = reproduce.run(options.file)
    except (OSError, ValueError) as error:
        raise UsageError(error) from None
    print(f"{options.file}: {problem or 'compiled equals eager'}")
    return 1 if problem else 0


def _minimize(options: Any) -> int:
    try:
        smaller = reproduce.minimize(options.file)
    except (OSError, ValueError) as error:
        raise UsageError(error) from None
    if smaller is None:
        raise UsageError(f"{options.file}: compiled equals eager; there is nothing to make smaller")
    with open(options.file, "w", encoding="utf-8") as file:
        file.write(smaller)
    print(smaller)
    return 0


def _cache(options: Any) -> int:
    from tracejit.codegen.cache import disk_cache

    cache = disk_cache()
    if cache is None:
        print("the kernel cache is switched off (TRACEJIT_CACHE=0)")
        return 0
    if options.action == "clear":
        print(f"{cache.clear()} kernels removed from {cache.folder}")
        return 0
    entries = cache.entries()
    size = sum(size for _, size, _ in entries)
    print(f"folder   {cache.folder}\nkernels  {len(entries)}\n"
          f"bytes    {size:,} of at most {config.cache_bytes:,}")  # fmt: skip
    return 0
