"""Workflows in Python. What it makes is the same `Document` that a YAML file makes, with the same digest.

::

    wf = Workflow("data-pipeline", "1.0.0", inputs={"limit": {"type": "integer", "default": 3}})

    extract = wf.lua("extract", "return {rows = {1, 2, 3}}")
    double = wf.lua("double", "return item * 2", foreach="nodes.extract.rows")

    @wf.python
    def total(double: list[int], inputs: dict[str, int]) -> int:
        return sum(double[: inputs["limit"]])

    extract >> double >> total
    wf.on_exit.lua("report", "log.info(execution.status)")
    document = wf.build()

Nodes are checked when `build` is called, all at once. Python functions stay in `Workflow.functions`, under the names
that the document calls them by; the engine that runs the workflow in this process registers them from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from dagengine.errors import Problem, SpecError
from dagengine.spec import document
from dagengine.spec.document import Check
from dagengine.spec.model import (
    Concurrency,
    CronTrigger,
    Document,
    FailurePolicy,
    HTTPTrigger,
    RequiredEngine,
    Retention,
)
from dagengine.spec.node_group import NodeGroup
from dagengine.spec.node_options import PythonOptions, Timeout, plain
from dagengine.spec.node_ref import Dependencies, NodeRef, PythonNodeRef
from dagengine.spec.path import format_path

__all__ = ["Dependencies", "NodeGroup", "NodeRef", "PythonNodeRef", "PythonOptions", "Timeout", "Workflow"]


class Workflow(NodeGroup):
    """Builds a workflow document: a group of nodes, and (`on_exit`) another one that runs when all of them have ended.

    `inputs` maps names to JSON Schemas, `outputs` names to templates. `http` is a path (`/trigger/name`) or an
    HTTPTrigger, `cron` a schedule or a CronTrigger; both may be mappings as in a document. `env` and `secrets` are the
    document's `configuration.env` and `configuration.secrets`, `modules` Lua code by name. `timeout`,
    `failure_policy`, `concurrency` (a number is its `max`), `engine` (a text is its `pool`), `priority` and `retention`
    are those of `spec`.
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
        secrets: Sequence[str] = (),
        modules: Mapping[str, str] | None = None,
        timeout: Timeout = None,
        failure_policy: FailurePolicy | None = None,
        concurrency: int | Mapping[str, object] | Concurrency | None = None,
        engine: str | Mapping[str, object] | RequiredEngine | None = None,
        priority: int = 0,
        retention: Mapping[str, object] | Retention | None = None,
    ) -> None:
        self.id = id
        self.version = version
        self.functions: dict[str, Callable[..., Any]] = {}
        """The functions of the nodes, by the name that the document calls them by (`workflow@version.node`)."""
        title, owner = f"workflow {id!r}", f"{id}@{version}"
        super().__init__(group="nodes", title=title, owner=owner, functions=self.functions)
        self.on_exit = NodeGroup(
            group="on_exit", title=f"the on_exit of {title}", owner=owner, functions=self.functions
        )
        """The nodes that run at the end in any case, with `execution.status` and all results in scope."""
        self._metadata = _present(
            id=id, version=version, name=name, description=description, labels=labels, annotations=annotations
        )
        self._inputs = dict(inputs or {})
        self._spec = _present(
            outputs=dict(outputs or {}),
            triggers=_present(http=_field(http, "path"), cron=_field(cron, "schedule")),
            configuration=_present(env=dict(env or {}), secrets=list(secrets)),
            modules=dict(modules or {}),
            timeout=timeout,
            failure_policy=failure_policy,
            engine=_field(engine, "pool"),
            priority=priority or None,
            retention=plain(retention) if isinstance(retention, BaseModel) else retention,
        )
        if concurrency is not None:
            self._spec["concurrency"] = {"max": concurrency} if isinstance(concurrency, int) else plain(concurrency)

    def build(self, *, checks: Sequence[Check] = ()) -> Document:
        """The document. Raises SpecError with everything that is wrong with it."""
        nodes, unbound = self.nodes(inputs=self._inputs)
        at_the_end, unbound_there = self.on_exit.nodes(inputs=self._inputs, ended=[node["id"] for node in nodes])
        spec = _present(inputs=self._inputs, **self._spec, nodes=nodes, on_exit=at_the_end)
        value = {"metadata": self._metadata, "spec": {**spec, "nodes": nodes}}
        problems = [Problem(path=format_path(path), message=message) for path, message in (*unbound, *unbound_there)]
        source = f"workflow {self.id!r}"
        return _with(problems, source, lambda: document.from_dict(value, source=source, checks=checks))


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


def _present(**fields: Any) -> dict[str, Any]:
    """The fields that have something in them."""
    return {name: value for name, value in fields.items() if value not in (None, "", {}, [])}


def _field(value: str | Mapping[str, object] | BaseModel | None, name: str) -> Mapping[str, object] | None:
    """A trigger, say, as a mapping, whichever way it was given."""
    if isinstance(value, str):
        return {name: value}
    return plain(value) if isinstance(value, BaseModel) else value
