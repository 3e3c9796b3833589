"""Every error that the sources make, and the texts that it may have, read from the sources themselves."""

from __future__ import annotations

import ast
import itertools
import re
from collections import defaultdict
from functools import cached_property
from typing import NamedTuple

from mpc import errors
from tests.conftest import ROOT

Q = "\0"
"""What a text is filled with where it is raised."""
LETTERS = re.compile("[a-z]{2}")
"""Where a text has words of its own."""
MANY = 64
"""Texts of one raise that are told apart; what has more is followed no further."""
KINDS = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, (errors.LocalFault, errors.RemoteFault))
}
BRANCHES = (ast.If, ast.For, ast.While, ast.With, ast.AsyncWith, ast.AsyncFor, ast.Try, ast.Match)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Raised(NamedTuple):
    """One error at one place: its kind, and one text that it may have there."""

    kind: str
    text: str
    path: str
    line: int


class Module:
    """One source file."""

    def __init__(self, path):
        self.path = str(path.relative_to(ROOT))
        self.tree = ast.parse(path.read_text("utf-8"))
        self.parents = {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}
        self.nodes = list(ast.walk(self.tree))
        self.imported = {name.name for node in self.nodes if isinstance(node, ast.ImportFrom) for name in node.names}

    def above(self, node):
        """The nodes around this one, the nearest first."""
        while (node := self.parents.get(node)) is not None:
            yield node

    def function(self, node):
        """The function around this node, if any."""
        return next((each for each in self.above(node) if isinstance(each, FUNCTIONS)), None)


class Sources:
    """All modules of the product."""

    def __init__(self):
        files = sorted(path for top in ("mpc", "parties", "protocols") for path in (ROOT / top).rglob("*.py"))
        self.modules = [Module(path) for path in files if "testing" not in path.parts]

    @cached_property
    def calls(self):
        """Every call, by the last part of what is called: the modules and nodes."""
        found = defaultdict(list)
        for module in self.modules:
            for node in module.nodes:
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                    found[last(node.func)].append((module, node))
        return found

    @cached_property
    def constants(self):
        """Every constant of a module, by its name: what it is."""
        return {
            target.id: (module, node)
            for module in self.modules
            for node in module.tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
            for target in targets(node)
            if isinstance(target, ast.Name)
        }

    @cached_property
    def functions(self):
        """Every function that gives a text, by its name: the modules and nodes."""
        found = defaultdict(list)
        for module in self.modules:
            for node in module.nodes:
                if isinstance(node, FUNCTIONS) and isinstance(node.returns, ast.Name) and node.returns.id == "str":
                    found[node.name].append((module, node))
        return found

    def raised(self):
        """Every error that is made, with each text of it."""
        for module in self.modules:
            for node in module.nodes:
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name | ast.Attribute):
                    continue
                for kind in self.kinds(module, node):
                    index = 1 if issubclass(KINDS[kind], errors.RemoteFault) else 0
                    said = self.texts(module, node.args[index]) if len(node.args) > index else [Q]
                    yield from (Raised(kind, text, module.path, node.lineno) for text in said)

    def kinds(self, module, call):
        """Which errors a call makes: one by its name, by a variable that stands for some, or the fault of a key of a file."""
        if last(call.func) in KINDS:
            return [last(call.func)]
        if last(call.func) == "own_text":
            return ["ConfigError"]
        if not isinstance(call.func, ast.Name):
            return []
        return sorted(
            {node.id for value in reaching(module, call.func) for node in ast.walk(value) if isinstance(node, ast.Name)} & KINDS.keys()
        )

    def texts(self, module, node, depth=4):
        """The texts that an expression may be, each with Q for what is not known here."""
        found = list(dict.fromkeys(self._texts(module, node, depth)))
        return found if len(found) <= MANY else [Q]

    def _texts(self, module, node, depth):
        match node:
            case ast.Constant(value=str(value)):
                return [value]
            case ast.JoinedStr(values=parts):
                # What stands between words is a name or a number; where there are no words, it is the text.
                own = any(LETTERS.search(part.value) for part in parts if isinstance(part, ast.Constant))
                return self._joined(module, [opaque(part) if own else part for part in parts], depth)
            case ast.FormattedValue(value=value):
                return self.texts(module, value, depth)
            case ast.Tuple(elts=choices):
                return [text for choice in choices for text in self.texts(module, choice, depth)]
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._joined(module, [left, right], depth)
            case ast.IfExp(body=one, orelse=other):
                return [*self.texts(module, one, depth), *self.texts(module, other, depth)]
            case ast.BoolOp(values=values):
                return [text for value in values for text in self.texts(module, value, depth)]
            case ast.Name():
                return self._named(module, node, depth)
            case ast.Call(func=ast.Attribute(value=ast.Dict(values=values), attr="get"), args=[_, default]):
                return [text for value in [*values, default] for text in self.texts(module, value, depth)]
            case ast.Call(func=ast.Name() | ast.Attribute() as called) if depth:
                returned = [
                    (home, each.value)
                    for home, function in self.functions[last(called)]
                    if home is module or last(called) in module.imported
                    for each in ast.walk(function)
                    if isinstance(each, ast.Return) and each.value is not None
                ]
                return [text for home, value in returned for text in self.texts(home, value, depth - 1)] or [Q]
            case _:
                return [Q]

    def _joined(self, module, parts, depth):
        choices = [self.texts(module, part, depth) for part in parts]
        return map("".join, itertools.islice(itertools.product(*choices), MANY + 1))

    def _named(self, module, node, depth):
        """A variable: what may have been assigned to it before, a constant, or what the callers of this function pass."""
        values = reaching(module, node)
        if values:
            return [text for value in values for text in self.texts(module, value, depth)]
        if node.id.isupper() and node.id in self.constants:
            home, constant = self.constants[node.id]
            return self.texts(home, constant.value, depth)
        return [text for home, value in self._passed(module, node) for text in self.texts(home, value, depth - 1)] if depth else [Q]

    def _passed(self, module, node):
        """What callers pass for the parameter of this name."""
        function = module.function(node)
        if function is None:
            return [(module, ast.Constant(None))]
        names = [argument.arg for argument in function.args.posonlyargs + function.args.args]
        method = names[:1] in (["self"], ["cls"])
        found = []
        if node.id in names:
            for home, call in self.calls[function.name]:
                if home is module or function.name in home.imported:
                    index = names.index(node.id) - method
                    named = [each.value for each in call.keywords if each.arg == node.id]
                    found += [(home, value) for value in [*call.args[index : index + 1], *named]]
        return found or [(module, ast.Constant(None))]


def last(node):
    """The last part of a dotted name."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def opaque(part):
    """A part of a text for which anything may stand, or, where it is a repr, anything in quotes; a constant stays."""
    if not isinstance(part, ast.FormattedValue) or (isinstance(part.value, ast.Name) and part.value.id.isupper()):
        return part
    return ast.Tuple([ast.Constant(f"'{Q}'"), ast.Constant(Q)]) if part.conversion == ord("r") else ast.Constant(Q)


def targets(node):
    """What a statement assigns to."""
    return node.targets if isinstance(node, ast.Assign) else [node.target]


def reaching(module, name):
    """The values that a local variable may have where it is read; the nearest assignments before it, in each branch."""
    node, found = name, []
    for parent in module.above(name):
        for block in (getattr(parent, field, None) for field in ("body", "orelse", "finalbody")):
            if isinstance(block, list) and node in block:
                for statement in reversed(block[: block.index(node)]):
                    values, certain = assigned(statement, name.id)
                    found += values
                    if certain:
                        return found
        if isinstance(parent, FUNCTIONS):
            return found
        node = parent
    return found


def assigned(statement, name):
    """The values that a statement may give a variable, and whether it surely does."""
    match statement:
        case ast.Assign(targets=[ast.Name(id=found)], value=value) if found == name:
            return [value], True
        case ast.Assign(targets=[ast.Tuple(elts=parts)], value=value):
            for index, part in enumerate(parts):
                if isinstance(part, ast.Name) and part.id == name:
                    pairs = [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]
                    return [pair.elts[index] if isinstance(pair, ast.Tuple) else ast.Constant(None) for pair in pairs], True
            return [], False
        case ast.AnnAssign(target=ast.Name(id=found), value=ast.expr() as value) if found == name:
            return [value], True
        case ast.AugAssign(target=ast.Name(id=found)) if found == name:
            return [ast.Constant(None)], True
        case ast.If() | ast.For() | ast.AsyncFor() | ast.While() | ast.With() | ast.AsyncWith() | ast.Try() | ast.Match():
            return branched(statement, name)
        case _:
            return [], False


def branched(statement, name):
    """The same of a statement with blocks: of those that go on behind it."""
    found, certain = [], isinstance(statement, ast.With | ast.AsyncWith) or (isinstance(statement, ast.If) and bool(statement.orelse))
    handlers = [each.body for each in getattr(statement, "handlers", [])] + [each.body for each in getattr(statement, "cases", [])]
    for block in [getattr(statement, "body", []), getattr(statement, "orelse", []), getattr(statement, "finalbody", []), *handlers]:
        if not block or isinstance(block[-1], ast.Raise | ast.Return | ast.Continue | ast.Break):
            continue
        for inner in reversed(block):
            values, sure = assigned(inner, name)
            found += values
            if sure:
                break
        else:
            certain = False
    return found, certain
