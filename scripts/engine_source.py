"""What an engine's code says of its flags, read as a syntax tree and never run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

# The order in which vLLM takes one of the types that a field may have.
KINDS = ("config", "bool", "literal", "list", "int", "float", "map", "str")
BUILTIN = {"bool": "bool", "int": "int", "float": "float", "str": "str", "Path": "str"}
BUILTIN |= dict.fromkeys(("dict", "Dict", "Mapping"), "map")
BUILTIN |= dict.fromkeys(("list", "List", "tuple", "Tuple", "set", "Sequence"), "list")
MARKS = {r"\b(config|dataclass|TypedDict)\b": "config", r"\bdict\b": "map", r"\bIntEnum\b": "int"}
WRAPPERS = ("A", "Annotated", "InitVar", "Optional", "SkipValidation", "Union")
# Stands for every value: the parser takes others than those that it offers, or a plugin adds some.
ANY = "*"


def quoted(text: str) -> ast.expr:
    """Return the annotation that stands in quotes."""
    return ast.parse(text, mode="eval").body


def subscripted(node: ast.Subscript) -> tuple[str, list[ast.expr]]:
    """Return the name before the brackets, without its module, and what stands in them."""
    outer = getattr(node.value, "attr", getattr(node.value, "id", ""))
    return outer, node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]


class Module:
    """One file's classes and names, and the modules it takes others from."""

    def __init__(self, root: Path, path: Path) -> None:
        self.root, self.path = root, path
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self.names: dict[str, ast.AST] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ClassDef):
                self.names.setdefault(node.name, node)
            elif isinstance(node, ast.ImportFrom):
                self.names.update({name.asname or name.name: node for name in node.names})
        for node in self.tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                self.names.setdefault(node.targets[0].id, node.value)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                self.names.setdefault(node.target.id, node.value or node.annotation)

    def find(self, name: str) -> tuple[Module, ast.AST] | None:
        """Return what a name stands for, followed through imports within the package."""
        node = self.names.get(name)
        if not isinstance(node, ast.ImportFrom):
            return (self, node) if node else None
        parents = self.path.relative_to(self.root).parts[: -node.level] if node.level else ()
        base = self.root.joinpath(*parents, *(node.module or "").split("."))
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.is_file():
                return load(self.root, path).find(name)
        return None

    def kinds(self, node: ast.AST | None) -> set[str]:
        """Return what a field with this annotation may hold, by KINDS."""
        if isinstance(node, ast.BinOp):
            return self.kinds(node.left) | self.kinds(node.right)
        if isinstance(node, ast.Constant):
            return self.kinds(quoted(node.value)) if isinstance(node.value, str) else set()
        if isinstance(node, ast.Subscript):
            outer, inner = subscripted(node)
            if outer == "Literal":
                first = inner[0]
                if not isinstance(first, ast.Constant):
                    return self.kinds(first)
                return {"literal", type(first.value).__name__}
            if outer in WRAPPERS:
                taken = inner if outer == "Union" else inner[:1]
                return set().union(*map(self.kinds, taken))
            return {BUILTIN.get(outer, "str")}
        name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "str")
        if name in BUILTIN:
            return {BUILTIN[name]}
        found = self.find(name)
        if found and isinstance(found[1], ast.ClassDef):
            marks = " ".join(map(ast.unparse, found[1].decorator_list + found[1].bases))
            kind = next((kind for mark, kind in MARKS.items() if re.search(mark, marks)), "str")
            return {kind}
        return found[0].kinds(found[1]) if found and found[1] is not node else {"str"}

    def offered(self, annotation: ast.AST) -> set[str]:
        """Return the values that a field with this annotation offers, none if it has no choices.

        vLLM's parser looks at what the annotation holds as one set: a class and a bool come before
        the choices, a list after them, and a text beside them lets any value through.
        """
        literals, elements, marks = self._hints(annotation)
        found = literals or elements
        if not found or marks & {"bool", "config"}:
            return set()
        return found | (marks & {ANY, "None"})

    def _hints(self, node: ast.AST) -> tuple[set[str], set[str], set[str]]:
        """Return an annotation's choices, those of a list's elements, and what else it takes."""
        nothing: tuple[set[str], set[str], set[str]] = (set(), set(), set())
        if isinstance(node, ast.BinOp):
            sides = (self._hints(node.left), self._hints(node.right))
            return tuple(one | other for one, other in zip(*sides, strict=True))  # type: ignore
        if isinstance(node, ast.Constant):
            if not isinstance(node.value, str):
                return set(), set(), {str(node.value)}
            return self._hints(quoted(node.value))
        if isinstance(node, ast.Subscript):
            outer, inner = subscripted(node)
            if outer == "Literal":
                return self._literal(inner), set(), set()
            if outer in WRAPPERS:
                found = [self._hints(one) for one in (inner if outer == "Union" else inner[:1])]
                found.append((set(), set(), {"None"} if outer == "Optional" else set()))
                return tuple(set().union(*part) for part in zip(*found, strict=True))  # type: ignore
            if BUILTIN.get(outer) == "list":
                literals, _elements, marks = self._hints(inner[0])
                return set(), literals | (marks & {ANY} if literals else set()), set()
            return nothing
        name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
        if name in ("str", "bool"):
            return set(), set(), {ANY if name == "str" else "bool"}
        target = self.find(name)
        if not target or target[1] is node or name in BUILTIN:
            return nothing
        if isinstance(target[1], ast.ClassDef):
            members = self._members(target[1])
            # The parser takes any text for a member, and looks it up afterwards, or lets it be.
            return (
                members,
                set(),
                target[0].kinds(node) & {"config"} | ({ANY} if members else set()),
            )
        return target[0]._hints(target[1])

    def json_types(self, node: ast.AST) -> set[str]:
        """Return the types of JSON that fill a field with this annotation.

        "" is among them for what more than one type may fill, as a member of an enumeration.
        """
        if isinstance(node, ast.BinOp):
            return self.json_types(node.left) | self.json_types(node.right)
        if isinstance(node, ast.Constant):
            return self.json_types(quoted(node.value)) if isinstance(node.value, str) else set()
        if isinstance(node, ast.Subscript):
            outer, inner = subscripted(node)
            if outer == "Literal":
                return {"int" if all(map(str.isdecimal, self._literal(inner))) else "str"}
            if outer in WRAPPERS:
                taken = inner if outer == "Union" else inner[:1]
                return set().union(*map(self.json_types, taken))
            if outer == "list" and getattr(inner[0], "id", "") == "int":
                return {"ints"}
            return {BUILTIN[outer] if outer in ("list", "dict") else ""}
        name = getattr(node, "id", "")
        if name in ("bool", "int", "float", "str", "list", "dict"):
            return {BUILTIN[name]}
        found = self.find(name)
        named = found and isinstance(found[1], (ast.BinOp, ast.Subscript))
        return found[0].json_types(found[1]) if found and named else {""}

    def chosen(self, annotation: ast.AST) -> set[str]:
        """Return all that a JSON value may be, none if it has no choices.

        A member of an enumeration goes by its name and by its number.
        """
        names = [one.id for one in ast.walk(annotation) if isinstance(one, ast.Name)]
        found = [self.find(name) for name in names if name not in BUILTIN]
        for cls in [one[1] for one in found if one and isinstance(one[1], ast.ClassDef)]:
            members = {
                node.targets[0].id: getattr(node.value, "value", None)
                for node in cls.body
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
            }
            numbers = {str(value) for value in members.values() if isinstance(value, int)}
            # One of texts, or of classes that are looked for, has further names.
            return {*members, *numbers} if numbers and "str" not in names else set()
        literals, _elements, marks = self._hints(annotation)
        return set() if marks & {ANY, "bool", "config"} else literals

    def _members(self, cls: ast.ClassDef) -> set[str]:
        """Return the names of an enumeration's members, none for another class."""
        if not any(re.search(r"\bEnum\b", ast.unparse(base)) for base in cls.bases):
            return set()
        targets = [node.targets[0] for node in cls.body if isinstance(node, ast.Assign)]
        # What fills the field takes auto for none, in most versions.
        return {one.id for one in targets if isinstance(one, ast.Name) and one.id[0] != "_"} | {
            "auto"
        }

    def _literal(self, nodes: list[ast.expr]) -> set[str]:
        """Return what Literal lists, through the names of others in it."""
        result = set()
        for node in nodes:
            if isinstance(node, ast.Constant):
                result.add(str(node.value))
            else:
                result |= self._hints(node)[0]
        return result

    def listed(self, node: ast.AST | None, near: Mapping[str, ast.AST] | None = None) -> set[str]:
        """Return the texts and numbers of a list that stands in the code, none if it is computed.

        Args:
            node: The list.
            near: What names of the function around it stand for.
        """
        if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
            result: set[str] = set()
            for one in node.elts:
                inner = {str(one.value)} if isinstance(one, ast.Constant) else set()
                if isinstance(one, ast.Starred):
                    inner = self.listed(one.value, near)
                elif isinstance(one, ast.Name):
                    found = self.find(one.id)
                    inner = {str(getattr(found[1], "value", ""))} if found else set()
                if not inner or "" in inner:
                    return set()
                result |= inner
            return result
        if isinstance(node, ast.BinOp):
            left, right = self.listed(node.left, near), self.listed(node.right, near)
            return left | right if left and right else set()
        if isinstance(node, ast.Call) and len(node.args) == 1:
            if ast.unparse(node.func) in ("list", "set", "sorted", "tuple"):
                return self.listed(node.args[0], near)
            if ast.unparse(node.func).endswith("get_args"):
                return self._hints(node.args[0])[0]
        if isinstance(node, ast.Name):
            if near and node.id in near:
                return self.listed(near[node.id])
            found = self.find(node.id)
            if found and not isinstance(found[1], ast.ClassDef) and found[1] is not node:
                values = found[0].listed(found[1])
                own = [name for name, one in found[0].names.items() if one is found[1]]
                return values | ({ANY} if values and found[0].grows(own[0]) else set())
        return set()

    def grows(self, name: str) -> bool:
        """Tell whether a file changes its list, or offers others a way to."""
        change = rf"\b{name}(\.(extend|append|insert|add|update|remove)\b| [+|]=)"
        return bool(re.search(change, ast.unparse(self.tree)))

    def kind(self, annotation: ast.AST, default: ast.AST | None = None) -> str:
        """Return the type by which a flag with this annotation is taken."""
        kinds = self.kinds(annotation)
        if isinstance(default, ast.Constant) and isinstance(default.value, str):
            kinds.discard("map")
        first = next((kind for kind in KINDS if kind in kinds), "str")
        if first == "literal":
            return "int" if "int" in kinds else "str"
        return "map" if first == "config" else first

    def fields(self, cls: ast.AST) -> dict[str, tuple[Module, ast.AnnAssign]]:
        """Return a dataclass's fields, with those of its bases."""
        assert isinstance(cls, ast.ClassDef), f"{ast.unparse(cls)} is no class"
        result: dict[str, tuple[Module, ast.AnnAssign]] = {}
        for base in cls.bases:
            found = self.find(base.id) if isinstance(base, ast.Name) else None
            if found and isinstance(found[1], ast.ClassDef):
                result |= found[0].fields(found[1])
        for node in cls.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                filled = "init=False" in ast.unparse(node.value) if node.value else False
                if not filled and "ClassVar" not in ast.unparse(node.annotation):
                    result[node.target.id] = (self, node)
        return {name: found for name, found in result.items() if not name.startswith("_")}


LOADED: dict[Path, Module] = {}


def load(root: Path, path: Path) -> Module:
    """Read a file once."""
    if path not in LOADED:
        LOADED[path] = Module(root, path)
    return LOADED[path]


def functions(node: ast.AST, name: str) -> Iterator[ast.FunctionDef]:
    return (f for f in ast.walk(node) if isinstance(f, ast.FunctionDef) and f.name == name)


def explicit(call: ast.Call) -> str | None:
    """Return the type that an add_argument call itself gives its flag, None if it says none."""
    said = {word.arg: ast.unparse(word.value) for word in call.keywords if word.arg}
    action, taken = said.get("action", ""), said.get("type", "")
    if re.search(r"store_(true|false)|Boolean|StoreTrue|StoreConst", action) or (
        said.get("nargs") == "0"
    ):
        return "bool" if "nargs=None" not in ast.unparse(call) else "str"
    if said.get("nargs", "") in ("'+'", "'*'"):
        return "list"
    if taken in BUILTIN:
        return BUILTIN[taken]
    if re.search(r"_int\b", taken):
        return "int"
    if "json" in taken and "list" not in taken:
        return "map"
    return "str" if taken or "action" in said else None


# Where code changes a field's choices: what it does to which field.
CHANGED = re.compile(
    r"\['(\w+)'\]\['choices'\]\s*(\.remove\(\w+\)|\.(?:append|extend|insert)|\W?=(?!=))"
)


class Argument(NamedTuple):
    """An add_argument call: its flags, and the field that says what they take, if one does."""

    call: ast.Call
    flags: list[str]
    where: Module
    field: ast.AnnAssign | None
    offered: set[str]


def arguments(module: Module, function: ast.AST) -> Iterator[Argument]:
    """Yield each add_argument call in a piece of code.

    vLLM mostly takes a type from a dataclass's field: **get_kwargs(CLASS)["field"].
    """
    assigned = {
        node.targets[0].id: node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    texts = {name: ast.unparse(value) for name, value in assigned.items()}
    changes = dict(CHANGED.findall(ast.unparse(function)))
    for call in ast.walk(function):
        if not isinstance(call, ast.Call) or not ast.unparse(call.func).endswith("add_argument"):
            continue
        said = {word.arg: word.value for word in call.keywords if word.arg}
        where, field, offered = module, None, set[str]()
        for word in [word for word in call.keywords if word.arg is None]:
            text = re.sub(r"\w+", lambda m: texts.get(m[0], m[0]), ast.unparse(word.value))
            named = re.search(r"get_kwargs\((\w+)\)\['(\w+)'\]", text)
            found = module.find(named[1]) if named else None
            if found and named:
                where, field = found[0].fields(found[1])[named[2]]
                offered = where.offered(field.annotation)
                if named[2] in changes:
                    removed = re.fullmatch(r"\.remove\((\w+)\)", changes[named[2]])
                    gone = module.find(removed[1]) if removed else None
                    offered -= {getattr(gone[1], "value", "")} if gone else offered
        if "choices" in said:
            offered = module.listed(said["choices"], assigned)
        if "type" in said and ast.unparse(said["type"]) not in ("str", "int"):
            offered = set()
        names = [str(arg.value) for arg in call.args if isinstance(arg, ast.Constant)]
        flags = [name[2:] for name in names if name.startswith("--")]
        yield Argument(call, flags, where, field, offered)


def added(module: Module, function: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield flag and type of each add_argument call in a piece of code."""
    for call, flags, where, field, _offered in arguments(module, function):
        kind = explicit(call)
        if field and not kind:
            kind = where.kind(field.annotation, field.value)
        for flag in flags:
            yield flag, kind or "str"


def paired(flag: str, offered: set[str]) -> dict[str, str]:
    """Return FLAG=VALUE for each value that a flag offers."""
    return {f"{flag}={value}": "" for value in offered if re.fullmatch(r"[^\s\"{}]+", value)}
