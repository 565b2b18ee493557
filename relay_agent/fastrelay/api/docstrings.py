"""What models say of their fields, in the strings below them.

pydantic would read them (``use_attribute_docstrings``) whenever a model is imported, which is a
good part of the time that a relay needs to start; only descriptions and schemas want them.
"""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache
from itertools import pairwise

from pydantic import BaseModel


def of_fields(model: type[BaseModel]) -> dict[str, str]:
    """By the fields' names in Python; without those that nothing is said of."""
    said: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if issubclass(kind, BaseModel) and kind is not BaseModel:
            said |= _in_module(kind.__module__)[kind.__name__]
    return {field: said[field] for field in model.model_fields if field in said}


@cache
def _in_module(name: str) -> dict[str, dict[str, str]]:
    """By the names of the module's classes."""
    body = ast.parse(inspect.getsource(sys.modules[name])).body
    return {each.name: _in_class(each) for each in body if isinstance(each, ast.ClassDef)}


def _in_class(tree: ast.ClassDef) -> dict[str, str]:
    said = {}
    for before, after in pairwise(tree.body):
        match before, after:
            case (
                ast.AnnAssign(target=ast.Name(id=field)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                said[field] = inspect.cleandoc(text)
    return said
