"""The `process` isolation: Python functions in worker processes that can be killed.

- `pool`: the workers there are, and the calls that wait for one. `desk`: one worker as the engine sees it.
- `output`: what a worker prints, cut into lines. `worker`: what runs in the process. `messages`: what the two say.

`worker` and `messages` run in the worker processes and import next to nothing.
"""
