"""The same three nodes in Python. Run it with `python hello.py`, or with `dagctl run hello.py -i name=World`."""

from __future__ import annotations

import sys

from dagengine import DAGEngine
from dagengine.spec.builder import Workflow

workflow = Workflow(
    "hello-python",
    "1.0.0",
    inputs={"name": {"type": "string", "default": "World"}},
    outputs={"greeting": "{{ nodes.greet }}"},
)

letters = workflow.lua("letters", "return {count = #inputs.name}")
loud = workflow.lua("loud", "return inputs.name:upper()")


@workflow.python
def greet(letters: dict[str, int], loud: str) -> str:
    return f"Hello, {loud}! ({letters['count']} letters)"


[letters, loud] >> greet

if __name__ == "__main__":
    outputs = DAGEngine().run_sync(workflow, {"name": sys.argv[1]} if len(sys.argv) > 1 else {})
    print(outputs["greeting"])
