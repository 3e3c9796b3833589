"""Every error that the sources make, with the texts that it may have, read from the sources themselves."""

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
REMOTE = {name for name, kind in KINDS.items() if issubclass(kind, errors.RemoteFault)}
CARRIED = {"own_text": 1, "_Fault": 3, "Own": 3}
"""Calls that carry a text to where a ConfigError says it, and how many arguments they then have.

The text is of a key, of a row, or of this organisation with a remedy.
"""
NOTHING, WRITTEN = ast.Constant(None), (ast.Constant, ast.JoinedStr, ast.IfExp, ast.BinOp)
"""A text of which nothing is known, and what texts are written as."""
DEPTH = 4
"""Calls through which a text is followed."""
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Raised(NamedTuple):
    """One error at one place: its kind, and one text that it may have there."""

    kind: str
    text: str
    path: str
    line: int


def product():
    """The texts of all modules of the product."""
    files = sorted(path for top in ("mpc", "parties", "protocols") for path in (ROOT / top).rglob("*.py"))
    return {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in files if "testing" not in path.parts}


class Module:
    """One source file."""

    def __init__(self, path, text):
        self.path = path
        self.tree = ast.parse(text)
        self.parents, self.nodes = {}, [self.tree]
        for node in self.nodes:
            children = list(ast.iter_child_nodes(node))
            self.parents |= dict.fromkeys(children, node)
            self.nodes += children
        self.imported = {name.name for node in self.nodes if isinstance(node, ast.ImportFrom) for name in node.names}

    def above(self, node):
        """The nodes around this one, the nearest first."""
        while (node := self.parents.get(node)) is not None:
            yield node

    def function(self, node):
        """The function around this node, if any."""
        return next((each for each in self.above(node) if isinstance(each, FUNCTIONS)), None)


class Site(NamedTuple):
    """A call of a function."""

    function: ast.AST
    home: Module
    call: ast.Call


class At(NamedTuple):
    """The place where a text is looked at: a module, how many more calls to follow, and the call of the function around it."""

    module: Module
    depth: int
    site: Site | None = None


class Sources:
    """Modules: their texts by their paths."""

    def __init__(self, texts):
        self.modules = [Module(path, text) for path, text in texts.items()]
        classes = [
            (each.name, last(base))
            for module in self.modules
            for each in module.nodes
            if isinstance(each, ast.ClassDef)
            for base in each.bases
        ]
        self._kinds = {name: name for name in KINDS} | {name: base for name, base in classes if base in KINDS and name not in KINDS}

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
                if not isinstance(node, ast.Call) or not last(node.func):
                    continue
                for kind in self.kinds(module, node):
                    said = said_by(node, kind)
                    texts = dict.fromkeys(text for at in self.places(module, node) for text in self.texts(at, said))
                    yield from (Raised(kind, text, module.path, node.lineno) for text in texts)

    def places(self, module, node):
        """The places from which to look at a node: one for every call of the function around it, or just the module."""
        function = module.function(node)
        sites = self.sites(module, function) if function is not None else []
        return [At(module, DEPTH, site) for site in sites] or [At(module, DEPTH)]

    def sites(self, module, function):
        """Where a function is called: in its module, and where it, or the class whose method it is, is imported."""
        around = next((each.name for each in module.above(function) if isinstance(each, ast.ClassDef)), function.name)
        return [Site(function, home, call) for home, call in self.calls[function.name] if home is module or around in home.imported]

    def kinds(self, module, call):
        """The names of the errors that a call makes.

        It may call an error by its name, a variable that stands for some, or what carries a text to where it is raised.
        """
        if last(call.func) in self._kinds:
            return [self._kinds[last(call.func)]]
        if last(call.func) in CARRIED and len(call.args) >= CARRIED[last(call.func)]:
            return ["ConfigError"]
        if not isinstance(call.func, ast.Name):
            return []
        return sorted(
            {node.id for value in reaching(module, call.func) for node in ast.walk(value) if isinstance(node, ast.Name)} & KINDS.keys()
        )

    def texts(self, at, node):
        """The texts that an expression may be, each with Q for what is not known here."""
        found = list(dict.fromkeys(self._texts(at, node)))
        return found if len(found) <= MANY else [Q]

    def _texts(self, at, node):
        match node:
            case ast.Constant(value=str(value)):
                return [value]
            case ast.JoinedStr(values=parts):
                # What stands between words is a name or a number; where there are no words, it is the text.
                own = any(LETTERS.search(part.value) for part in parts if isinstance(part, ast.Constant))
                return self._joined(at, [self._opaque(at, part) if own else part for part in parts])
            case ast.FormattedValue(value=value):
                return self.texts(at, value)
            case ast.Tuple(elts=choices):
                return [text for choice in choices for text in self.texts(at, choice)]
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._joined(at, [left, right])
            case ast.IfExp(body=one, orelse=other):
                return [*self.texts(at, one), *self.texts(at, other)]
            case ast.BoolOp(values=values):
                return [text for value in values for text in self.texts(at, value)]
            case ast.Name():
                return self._named(at, node)
            case ast.Call(func=ast.Attribute(value=ast.Dict(values=values), attr="get"), args=[_, default]):
                return [text for value in [*values, default] for text in self.texts(at, value)]
            case ast.Call(func=ast.Name() | ast.Attribute() as called) if at.depth:
                returned = [
                    (home, each.value)
                    for home, function in self.functions[last(called)]
                    if home is at.module or last(called) in at.module.imported
                    for each in ast.walk(function)
                    if isinstance(each, ast.Return) and each.value is not None
                ]
                return [text for home, value in returned for text in self.texts(At(home, at.depth - 1), value)] or [Q]
            case _:
                return [Q]

    def _joined(self, at, parts):
        choices = [self.texts(at, part) for part in parts]
        return map("".join, itertools.islice(itertools.product(*choices), MANY + 1))

    def _opaque(self, at, part):
        """A part of a text with anything in place of what is not known: anything in quotes where it is a repr.

        Constants stay, and so do words that a caller gives.
        """
        if not isinstance(part, ast.FormattedValue) or last(part.value).isupper():
            return part
        if at.site is not None and part.conversion < 0 and any(isinstance(value, WRITTEN) for value in given(at.site, last(part.value))):
            return part
        return ast.Tuple([ast.Constant(f"'{Q}'"), NOTHING]) if part.conversion == ord("r") else NOTHING

    def _named(self, at, node):
        """A variable: what may have been assigned to it before, a constant, or what the callers of this function pass."""
        values = reaching(at.module, node)
        if values:
            return [text for value in values for text in self.texts(at, value)]
        if node.id.isupper() and node.id in self.constants:
            home, constant = self.constants[node.id]
            return self.texts(At(home, at.depth), constant.value)
        function = at.module.function(node)
        if function is None or not at.depth:
            return [Q]
        sites = [at.site] if at.site is not None and at.site.function is function else self.sites(at.module, function)
        return [text for site in sites for value in given(site, node.id) for text in self.texts(At(site.home, at.depth - 1), value)] or [Q]


def said_by(call, kind):
    """The expressions that make the text of an error."""
    if last(call.func) == "Own":
        _, found, remedy = call.args
        if isinstance(found, ast.Name) and not found.id.isupper():
            return NOTHING  # shown of an error that is raised as it is
        return ast.BinOp(ast.BinOp(found, ast.Add(), ast.Constant("; ")), ast.Add(), remedy)
    return (*call.args, NOTHING, NOTHING)[kind in REMOTE]


def is_method(function):
    """Whether a function has the instance, or its class, as its first argument."""
    return [argument.arg for argument in function.args.args[:1]] in (["self"], ["cls"])


def given(site, name):
    """The values that a call passes for a parameter of the function that it calls: one or none."""
    names = [argument.arg for argument in site.function.args.posonlyargs + site.function.args.args]
    if name not in names:
        return [each.value for each in site.call.keywords if each.arg == name]
    index = names.index(name) - is_method(site.function)
    return [*site.call.args[index : index + 1], *(each.value for each in site.call.keywords if each.arg == name)]


def last(node):
    """The last part of a dotted name."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


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
        if isinstance(parent, FUNCTIONS) and (
            found or name.id in [argument.arg for argument in ast.walk(parent.args) if isinstance(argument, ast.arg)]
        ):
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
                    return [pair.elts[index] if isinstance(pair, ast.Tuple) else NOTHING for pair in pairs], True
            return [], False
        case ast.AnnAssign(target=ast.Name(id=found), value=ast.expr() as value) if found == name:
            return [value], True
        case ast.AugAssign(target=ast.Name(id=found)) if found == name:
            return [NOTHING], True
        case ast.If() | ast.For() | ast.AsyncFor() | ast.While() | ast.With() | ast.AsyncWith() | ast.Try() | ast.Match():
            return branched(statement, name)
        case _:
            return [], False


def branched(statement, name):
    """The same for a statement with blocks: only the blocks after which the code goes on count."""
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
