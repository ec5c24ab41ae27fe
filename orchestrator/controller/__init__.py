"""Workflows as Kubernetes objects: what `kubectl` says about Workflow and Execution objects is done, and told back.

Level-triggered. A reflector keeps the objects at hand; names of those that may need something go into a queue; and a
reconciler looks at one of them as it is now, at what the orchestrator knows, does what is missing, and writes the
object's status where that says something else. Nothing that matters is kept in memory: whoever leads next, after
whatever crash, goes on from the objects and the store.

- `conditions`: statuses and patches, as values.
- `queue`: which objects are to be looked at, and when.
- `objects`: the objects of one kind, as they are and as they were just written.
- `workflows`, `executions`: the reconcilers.
- `controllers`: all of it put together; run by whichever replica leads (`in_kubernetes`).
"""
