"""A list of nodes under construction: those of a workflow, or those of its `on_exit`.

`builder.Workflow` is one and has one. Each method adds a node and gives a reference to it; nodes are checked when the
workflow is built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar, Unpack, overload

from dagengine.errors import SpecError
from dagengine.spec import function_binding
from dagengine.spec.model import Approval, Node, Signal
from dagengine.spec.node_options import (
    HTTPOptions,
    LuaOptions,
    NodeOptions,
    PythonOptions,
    ShellOptions,
    Timeout,
    chosen,
    plain,
)
from dagengine.spec.node_ref import Dependencies, NodeRef, PythonNodeRef, ids
from dagengine.spec.outline import Group
from dagengine.spec.path import Finding

__all__ = ["NodeGroup"]

P = ParamSpec("P")
R = TypeVar("R")


class NodeGroup:
    """Nodes that may depend on each other. `owner` is how functions are named, `functions` where they are kept.

    `title` says in messages whose nodes they are. All methods take the options of `node_options.NodeOptions`:
    `depends_on`, `foreach`, `when`, `retry`, `timeout` and so on; texts and numbers mean what they mean in a document.
    """

    def __init__(self, *, group: Group, title: str, owner: str, functions: dict[str, Callable[..., Any]]) -> None:
        self.title = title
        self._group: Group = group
        self._owner = owner
        self._functions = functions
        self._nodes: list[dict[str, Any]] = []
        self._by_id: dict[str, dict[str, Any]] = {}
        self._bound: list[tuple[int, Callable[..., Any], Mapping[str, object]]] = []

    def lua(self, id: str, code: str, **options: Unpack[LuaOptions]) -> NodeRef:
        """Add a node that runs Lua `code`; what the code returns is the node's result."""
        fields, limits = chosen("lua", LuaOptions, options)
        return self._add(id, {"type": "lua", "code": code, **limits}, options.get("depends_on"), fields)

    def shell(self, id: str, command: str | Sequence[str], **options: Unpack[ShellOptions]) -> NodeRef:
        """Add a node that runs a program: a list is the program and its arguments, a text a script for `shell`.

        Nothing is put into either; values go by `env` and `stdin`, whose texts may hold `{{ }}` templates, and secrets
        by `secrets`, the names of secrets by environment variable.
        """
        fields, rest = chosen("shell", ShellOptions, options)
        what = {"script": command} if isinstance(command, str) else {"command": list(command)}
        return self._add(id, {"type": "shell", **what, **rest}, options.get("depends_on"), fields)

    def http(self, id: str, url: str, **options: Unpack[HTTPOptions]) -> NodeRef:
        """Add a node that sends an HTTP request; its result is the body, or what `select` or `pointers` make of it."""
        fields, rest = chosen("http", HTTPOptions, options)
        return self._add(id, {"type": "http", "url": url, **rest}, options.get("depends_on"), fields)

    def wait(
        self,
        id: str,
        *,
        duration: Timeout = None,
        until: str | float | None = None,
        signal: str | Signal | Mapping[str, object] | None = None,
        approval: Approval | Mapping[str, object] | None = None,
        **options: Unpack[NodeOptions],
    ) -> NodeRef:
        """Add a node that waits for one of these: a time, a signal (a text is its name), or an approval."""
        fields, _ = chosen("wait", NodeOptions, options)
        signal = {"name": signal} if isinstance(signal, str) else signal
        given = {"duration": duration, "until": until, "signal": plain(signal), "approval": plain(approval)}
        executor = {name: value for name, value in given.items() if value is not None}
        return self._add(id, {"type": "wait", **executor}, options.get("depends_on"), fields)

    @overload
    def python(self, function: Callable[P, R], /) -> PythonNodeRef[P, R]: ...
    @overload
    def python(
        self, id: str | None = None, /, **options: Unpack[PythonOptions]
    ) -> Callable[[Callable[P, R]], PythonNodeRef[P, R]]: ...
    @overload
    def python(self, id: str, function: Callable[P, R], /, **options: Unpack[PythonOptions]) -> PythonNodeRef[P, R]: ...
    def python(
        self,
        id_or_function: str | Callable[..., Any] | None = None,
        function: Callable[..., Any] | None = None,
        /,
        **options: Unpack[PythonOptions],
    ) -> Any:
        """Add a node that calls a Python function; what the function returns is the node's result.

        Used as `@wf.python`, as `@wf.python(depends_on=[a])`, as `@wf.python("id")`, or called with an id and a
        function. Without an id the node is named after the function.

        Parameters are bound by name: one named like a dependency gets its result (`load_data` gets that of
        `load-data`), `inputs` all inputs, `nodes` the results of all dependencies, `item` and `index` what `foreach`
        gives (`index` counts from 1) and `key` the key of that element of a map, in `on_exit` `execution` how the
        execution ended, and one named like a declared input that input. `args` says what the others get: JSON values
        whose texts may hold `{{ }}` templates. Without `depends_on`, parameters named like earlier nodes make those
        dependencies. `pure=True` says that calling it twice does no harm.
        """

        def add(function: Callable[P, R]) -> PythonNodeRef[P, R]:
            id_ = id_or_function if isinstance(id_or_function, str) else function.__name__
            return self._add_function(id_, function, options)

        if callable(id_or_function):
            return add(id_or_function)
        return add if function is None else add(function)

    def add(self, node: Node) -> NodeRef:
        """Add a node made by hand."""
        self._nodes.append(plain(node))
        self._by_id.setdefault(node.id, self._nodes[-1])
        return NodeRef(self, node.id)

    def connect(self, before: Iterable[str | NodeRef], after: NodeRef) -> None:
        """Let `after` wait for all of `before`."""
        before = list(before)
        for node in (*before, after):
            if isinstance(node, NodeRef) and node.group is not self:
                raise SpecError(f"{node!r} cannot be connected to a node of {self.title}")
        known = self._by_id[after.id].setdefault("dependencies", [])
        known.extend(id_ for id_ in dict.fromkeys(ids(before)) if id_ not in known)

    def nodes(
        self, *, inputs: Iterable[str], ended: Sequence[str] = ()
    ) -> tuple[list[dict[str, Any]], Iterator[Finding]]:
        """The nodes as a document has them, with the arguments of their functions, and what cannot be bound.

        `inputs` are the names of the workflow's inputs, `ended` the nodes that all of these come after.
        """
        nodes = [dict(node) for node in self._nodes]
        wrong: list[Finding] = []
        for place, function, args in self._bound:
            node = nodes[place]
            extra = [*(["key"] if "foreach" in node else []), *(["execution"] if self._group == "on_exit" else [])]
            bound, missing = function_binding.arguments(
                function, given=args, nodes=[*node.get("dependencies", []), *ended], inputs=inputs, extra=extra
            )
            node["executor"] = {**node["executor"], **({"args": bound} if bound else {})}
            wrong.extend(Finding(("spec", self._group, place, "executor", "args"), message) for message in missing)
        return nodes, iter(wrong)

    def _add(
        self, id_: str, executor: dict[str, Any], depends_on: Dependencies | None, fields: dict[str, Any]
    ) -> NodeRef:
        before = [depends_on] if isinstance(depends_on, str | NodeRef) else list(depends_on or ())
        node = {"id": id_, "executor": executor, **fields}
        self._nodes.append(node)
        self._by_id.setdefault(id_, node)
        added = NodeRef(self, id_)
        if before:
            self.connect(before, added)
        return added

    def _add_function(self, id_: str, function: Callable[P, R], options: PythonOptions) -> PythonNodeRef[P, R]:
        fields, rest = chosen("python", PythonOptions, options)
        args = rest.pop("args", {})
        if rest.get("pure") is False:
            del rest["pure"]
        before = options.get("depends_on")
        if before is None:
            before = function_binding.named_nodes(function, self._by_id, given=args)
        registered = f"{self._owner}.{id_}"
        self._add(id_, {"type": "python", "function": registered, **rest}, before, fields)
        self._bound.append((len(self._nodes) - 1, function, dict(args)))
        self._functions[registered] = function
        return PythonNodeRef(self, id_, function)
