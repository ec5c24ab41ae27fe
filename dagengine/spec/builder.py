"""Workflows in Python. What it makes is the same `Document` that a YAML file makes, with the same digest.

::

    wf = Workflow("data-pipeline", "1.0.0", inputs={"limit": {"type": "integer", "default": 3}})

    extract = wf.lua("extract", "return {rows = {1, 2, 3}}")
    double = wf.lua("double", "return item * 2", foreach="nodes.extract.rows")

    @wf.python
    def total(double: list[int], inputs: dict[str, int]) -> int:
        return sum(double[: inputs["limit"]])

    extract >> double >> total
    document = wf.build()

Nodes are checked when `build` is called, all at once. Python functions stay in `Workflow.functions`, under the names
that the document calls them by; the engine that runs the workflow in this process registers them from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, ParamSpec, TypeAlias, TypedDict, TypeVar, Unpack, overload

from pydantic import BaseModel

from dagengine.errors import Problem, SpecError
from dagengine.spec import document, function_binding
from dagengine.spec.document import Check
from dagengine.spec.model import CronTrigger, Document, HTTPTrigger, Node, Retry, RunIf

__all__ = ["Dependencies", "NodeRef", "PythonNodeRef", "PythonOptions", "Timeout", "Workflow"]

P = ParamSpec("P")
R = TypeVar("R")
N = TypeVar("N", bound="NodeRef")
S = TypeVar("S", bound="Iterable[NodeRef]")

Dependencies: TypeAlias = "str | NodeRef | Iterable[str | NodeRef]"
"""One node or several, by id or by reference."""

Timeout: TypeAlias = str | float | None
"""A text such as `5m` or `1h30m`, or a number of seconds."""


class PythonOptions(TypedDict, total=False):
    """The keyword arguments of `Workflow.python`."""

    args: Mapping[str, object] | None
    pure: bool
    depends_on: Dependencies | None
    foreach: str | None
    when: str | None
    run_if: RunIf | None
    retry: Retry | Mapping[str, object] | None
    timeout: Timeout
    name: str
    description: str


class NodeRef:
    """A node of a `Workflow` under construction: what `>>` and `depends_on` connect."""

    def __init__(self, workflow: Workflow, id_: str) -> None:
        self._workflow = workflow
        self.id = id_

    def depends_on(self, *nodes: str | NodeRef) -> NodeRef:
        """Let this node wait for `nodes`; gives this node back."""
        self._workflow.connect(nodes, self)
        return self

    @overload
    def __rshift__(self, after: N) -> N: ...
    @overload
    def __rshift__(self, after: S) -> S: ...
    def __rshift__(self, after: NodeRef | Iterable[NodeRef]) -> NodeRef | Iterable[NodeRef]:
        """`a >> b`, `a >> [b, c]`: what is on the right waits for this node. Gives the right side back."""
        for node in [after] if isinstance(after, NodeRef) else after:
            node.depends_on(self)
        return after

    def __rrshift__(self, before: Iterable[NodeRef]) -> NodeRef:
        """`[a, b] >> c`: this node waits for all of `before`."""
        return self.depends_on(*before)

    def __repr__(self) -> str:
        return f"<node {self.id!r} of workflow {self._workflow.id!r}>"


class PythonNodeRef(NodeRef, Generic[P, R]):
    """A node that calls a Python function. Calling it calls the function, so that it can be tested as usual."""

    def __init__(self, workflow: Workflow, id_: str, function: Callable[P, R]) -> None:
        super().__init__(workflow, id_)
        self.function = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)


class Workflow:
    """Builds a workflow document.

    `inputs` maps names to JSON Schemas, `outputs` names to templates. `http` is a path (`/trigger/name`) or an
    HTTPTrigger, `cron` a schedule or a CronTrigger; both may be mappings as in a document. `env` is the document's
    `configuration.env`.
    """

    def __init__(
        self,
        id: str,
        version: str,
        *,
        name: str = "",
        description: str = "",
        inputs: Mapping[str, Mapping[str, object]] | None = None,
        outputs: Mapping[str, object] | None = None,
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        http: str | Mapping[str, object] | HTTPTrigger | None = None,
        cron: str | Mapping[str, object] | CronTrigger | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.id = id
        self.version = version
        self.functions: dict[str, Callable[..., Any]] = {}
        """The functions of the nodes, by the name that the document calls them by (`workflow@version.node`)."""
        self._metadata = _present(
            id=id, version=version, name=name, description=description, labels=labels, annotations=annotations
        )
        self._inputs = dict(inputs or {})
        self._outputs = dict(outputs or {})
        self._triggers = _present(http=_field(http, "path"), cron=_field(cron, "schedule"))
        self._env = dict(env or {})
        self._nodes: list[dict[str, Any]] = []
        self._by_id: dict[str, dict[str, Any]] = {}
        self._bound: list[tuple[int, Callable[..., Any], Mapping[str, object]]] = []

    def lua(
        self,
        id: str,
        code: str,
        *,
        depends_on: Dependencies = (),
        foreach: str | None = None,
        when: str | None = None,
        run_if: RunIf | None = None,
        retry: Retry | Mapping[str, object] | None = None,
        timeout: Timeout = None,
        name: str = "",
        description: str = "",
    ) -> NodeRef:
        """Add a node that runs Lua `code`; what the code returns is the node's result."""
        executor = {"type": "lua", "code": code}
        fields = _fields(foreach, when, run_if, retry, timeout, name, description)
        return self._add(id, executor, depends_on, fields)

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
        *,
        args: Mapping[str, object] | None = None,
        pure: bool = False,
        depends_on: Dependencies | None = None,
        foreach: str | None = None,
        when: str | None = None,
        run_if: RunIf | None = None,
        retry: Retry | Mapping[str, object] | None = None,
        timeout: Timeout = None,
        name: str = "",
        description: str = "",
    ) -> Any:
        """Add a node that calls a Python function; what the function returns is the node's result.

        Used as `@wf.python`, as `@wf.python(depends_on=[a])`, as `@wf.python("id")`, or called with an id and a
        function. Without an id the node is named after the function.

        Parameters are bound by name: one named like a dependency gets its result (`load_data` gets that of
        `load-data`), `inputs` all inputs, `nodes` the results of all dependencies, `item` and `index` what `foreach`
        gives (`index` counts from 1), and one named like a declared input that input. `args` says what the others
        get: JSON values whose texts may hold `{{ }}` templates. Without `depends_on`, parameters named like earlier
        nodes make those dependencies. `pure=True` says that calling it twice does no harm.
        """
        fields = _fields(foreach, when, run_if, retry, timeout, name, description)

        def add(function: Callable[P, R]) -> PythonNodeRef[P, R]:
            id_ = id_or_function if isinstance(id_or_function, str) else function.__name__
            return self._add_function(id_, function, args=args or {}, pure=pure, depends_on=depends_on, fields=fields)

        if callable(id_or_function):
            return add(id_or_function)
        return add if function is None else add(function)

    def add(self, node: Node) -> NodeRef:
        """Add a node made by hand."""
        plain: dict[str, Any] = node.model_dump(mode="json", exclude_defaults=True)
        self._nodes.append(plain)
        self._by_id.setdefault(node.id, plain)
        return NodeRef(self, node.id)

    def connect(self, before: Iterable[str | NodeRef], after: NodeRef) -> None:
        """Let `after` wait for all of `before`."""
        for node in (*before, after):
            if isinstance(node, NodeRef) and node._workflow is not self:
                raise SpecError(f"{node!r} cannot be connected to a node of workflow {self.id!r}")
        known = self._by_id[after.id].setdefault("dependencies", [])
        known.extend(id_ for id_ in dict.fromkeys(_ids(before)) if id_ not in known)

    def build(self, *, checks: Sequence[Check] = ()) -> Document:
        """The document. Raises SpecError with everything that is wrong with it."""
        nodes = [dict(node) for node in self._nodes]
        unbound: list[Problem] = []
        for index, function, args in self._bound:
            bound, missing = function_binding.arguments(
                function, given=args, dependencies=nodes[index].get("dependencies", []), inputs=self._inputs
            )
            nodes[index]["executor"] = {**nodes[index]["executor"], **({"args": bound} if bound else {})}
            where = f"spec.nodes[{index}].executor.args"
            unbound.extend(Problem(path=where, message=message) for message in missing)
        spec = _present(inputs=self._inputs, outputs=self._outputs, triggers=self._triggers)
        if self._env:
            spec["configuration"] = {"env": self._env}
        value = {"metadata": self._metadata, "spec": {**spec, "nodes": nodes}}
        source = f"workflow {self.id!r}"
        return _with(unbound, source, lambda: document.from_dict(value, source=source, checks=checks))

    def _add(
        self,
        id_: str,
        executor: dict[str, Any],
        depends_on: Dependencies,
        fields: dict[str, Any],
    ) -> NodeRef:
        before = [depends_on] if isinstance(depends_on, str | NodeRef) else list(depends_on)
        node = {"id": id_, "executor": executor, **fields}
        self._nodes.append(node)
        self._by_id.setdefault(id_, node)
        added = NodeRef(self, id_)
        if before:
            self.connect(before, added)
        return added

    def _add_function(
        self,
        id_: str,
        function: Callable[P, R],
        *,
        args: Mapping[str, object],
        pure: bool,
        depends_on: Dependencies | None,
        fields: dict[str, Any],
    ) -> PythonNodeRef[P, R]:
        registered = f"{self.id}@{self.version}.{id_}"
        executor = {"type": "python", "function": registered, **({"pure": True} if pure else {})}
        implied = function_binding.named_nodes(function, self._by_id, given=args) if depends_on is None else depends_on
        self._add(id_, executor, implied, fields)
        self._bound.append((len(self._nodes) - 1, function, dict(args)))
        self.functions[registered] = function
        return PythonNodeRef(self, id_, function)


def _with(problems: list[Problem], source: str, build: Callable[[], Document]) -> Document:
    """What `build` gives, unless it or `problems` has something to say."""
    try:
        built = build()
    except SpecError as exc:
        if not problems:
            raise
        raise document.error(source, [*exc.problems, *problems], omitted=exc.omitted) from exc
    if problems:
        raise document.error(source, problems)
    return built


def _ids(nodes: Iterable[str | NodeRef]) -> list[str]:
    return [node.id if isinstance(node, NodeRef) else node for node in nodes]


def _present(**fields: Any) -> dict[str, Any]:
    """The fields that have something in them."""
    return {name: value for name, value in fields.items() if value not in (None, "", {})}


def _field(value: str | Mapping[str, object] | BaseModel | None, name: str) -> Mapping[str, object] | None:
    """A trigger as a mapping, whichever way it was given."""
    if isinstance(value, str):
        return {name: value}
    return value.model_dump(mode="json", exclude_defaults=True) if isinstance(value, BaseModel) else value


def _fields(
    foreach: str | None,
    when: str | None,
    run_if: RunIf | None,
    retry: Retry | Mapping[str, object] | None,
    timeout: Timeout,
    name: str,
    description: str,
) -> dict[str, Any]:
    """The fields that all nodes share, as a document has them."""
    if isinstance(retry, Retry):
        retry = retry.model_dump(mode="json", exclude_defaults=True)
    shared = {"foreach": foreach, "when": when, "run_if": run_if, "retry": retry, "timeout": timeout}
    return {
        **({"name": name} if name else {}),
        **({"description": description} if description else {}),
        **{field: value for field, value in shared.items() if value is not None},
    }
