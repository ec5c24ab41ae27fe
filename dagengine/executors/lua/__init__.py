"""Lua: the sandbox scripts and expressions run in, and the executor that runs scripts in the engine's own process.

- `values.lua`, `json.lua`, `guard.lua`, `library.lua`, `sandbox.lua`: the sandbox, in Lua.
- `runtime`: one sandboxed Lua state; no asyncio, so that a worker process can use it as well.
- `chunk`, `template`: code and `{{ }}` templates, compiled for a runtime. `cache`: what a runtime keeps.
- `performer`, `inline`: the executor. `evaluator`: expressions and templates. `check`: syntax errors of a document.
"""
