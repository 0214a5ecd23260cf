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


def load(name: str) -> ModuleType:
    """Return the module NAME, or for a name that ends in ``.py`` the one in that file."""
    try:
        if name.endswith(".py"):
            return _load_file(Path(name))
        if "" not in sys.path:
            sys.path.insert(0, "")
        return importlib.import_module(name)
    except UnknownModuleError:
        raise
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise UnknownModuleError(f"there is no module {name}") from error
        raise UnknownModuleError(f"module {name} does not load: {error}") from error
    except Exception as error:
        raise UnknownModuleError(
            f"module {name} does not load: {type(error).__name__}: {error}"
        ) from error


def _load_file(path: Path) -> ModuleType:
    """Return the module in the file at PATH."""
    if not path.is_file():
        raise UnknownModuleError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem.replace("-", "_"), path)
    if spec is None or spec.loader is None:
        raise UnknownModuleError(f"{path} is no module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.parent.resolve()))
    spec.loader.exec_module(module)
    return module


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
