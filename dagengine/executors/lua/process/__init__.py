"""The `process` isolation: Lua scripts in a pool of small worker processes that can be killed.

- `executor`: the port's side, on the event loop: which worker gets what, deadlines, cancellation, what a death means.
- `orders`: jobs as what a worker is sent; what a worker has been sent before is not sent again.
- `desk`: one worker as the engine sees it: what it was handed, what it reports, what it has not begun yet.
- `pool`: the workers there are. `deaths`: what it means when one dies.
- `nursery`: the zygote as the engine sees it: starts it, asks it for workers and for their deaths.
- `zygote`: the small process that workers are forked from. `worker`: what a worker does. `confinement`: its limits.
- `messages`: what is said between all of them.

`zygote`, `worker`, `confinement` and `messages` run in the worker processes and import next to nothing.
"""
