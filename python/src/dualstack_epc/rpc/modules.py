# SPDX-License-Identifier: GPL-3.0-or-later
"""The functions of a module, as methods of a server."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType


class UnknownModuleError(Exception):
    """There is no such module, or it does not load; the message says which and why."""


def extend_path(directories: Iterable[str]) -> None:
    """Look for modules in DIRECTORIES, too, after all other places.

    Raise `UnknownModuleError` if there is no such directory.
    """
    for each in directories:
        directory = Path(each).resolve()
        if not directory.is_dir():
            raise UnknownModuleError(f"there is no directory {each}")
        if str(directory) not in sys.path:
            sys.path.append(str(directory))


def load(name: str) -> ModuleType:
    """Return the module NAME, or for a name that ends in ``.py`` the one in that file.

    The current directory is no place where modules are found.
    """
    try:
        if name.lower().endswith(".py"):  # A short name of Windows is in capitals.
            path = Path(name)
            return _load_file(path.resolve() if sys.platform == "win32" else path.absolute())
        return importlib.import_module(name)
    except UnknownModuleError:
        raise
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise UnknownModuleError(
                f"there is no module {name}: name its file, or its directory with --path"
            ) from error
        raise UnknownModuleError(f"module {name} does not load: {error}") from error
    except BaseException as error:  # That a script ends when it is imported is to be said, too.
        raise UnknownModuleError(
            f"module {name} does not load: {type(error).__name__}: {error}"
        ) from error


def _load_file(path: Path) -> ModuleType:
    """Return the module in the file at PATH, an absolute one; ``__init__.py`` is its package's."""
    if not path.is_file():
        raise UnknownModuleError(f"there is no file {path}")
    is_package = path.stem == "__init__"
    name = _free_name((path.parent.name if is_package else path.stem).replace("-", "_"))
    spec = importlib.util.spec_from_file_location(
        name, path, submodule_search_locations=[str(path.parent)] if is_package else None
    )
    if spec is None or spec.loader is None:
        raise UnknownModuleError(f"{path} is no module")
    if not is_package:
        # Last, so that nothing beside the file hides a module of Python's or of the environment.
        extend_path([str(path.parent)])
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _free_name(name: str) -> str:
    """Return NAME, changed if a module is or may be loaded by it: a file can be called queue.py."""
    while name in sys.modules or name in sys.stdlib_module_names:
        name = f"sidecar_{name}"
    return name


def methods(modules: list[ModuleType]) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield the public functions of MODULES by each name that they are called by."""
    for module in modules:
        for function in public_functions(module):
            for name in method_names(function):
                yield name, function


def public_functions(module: ModuleType) -> list[Callable[..., Any]]:
    """Return the functions in MODULE's ``__all__``, or those that it defines without underscore."""
    names: Iterable[str] | None = getattr(module, "__all__", None)
    if names is not None:
        found = [getattr(module, name, None) for name in names]
        return [each for each in found if callable(each)]
    return [
        value
        for name, value in vars(module).items()
        if callable(value)
        and not name.startswith("_")
        and not isinstance(value, type)
        and getattr(value, "__module__", None) == module.__name__
    ]


def method_names(function: Callable[..., Any]) -> list[str]:
    """Return the names FUNCTION is called by: its own, and that in Lisp's style if it differs."""
    name = str(getattr(function, "__name__", ""))
    return list(dict.fromkeys([name, name.replace("_", "-")]))
