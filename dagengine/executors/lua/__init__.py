"""Lua: the sandbox scripts and expressions run in, and the executor that runs scripts in the engine's own process.

- `values.lua`, `json.lua`, `guard.lua`, `metatables.lua`, `base64.lua`, `digest.lua`, `re.lua`, `time.lua`,
  `library.lua`, `sandbox.lua`: the sandbox, in Lua. `boot` puts it together.
- `runtime`: a sandboxed Lua state; no asyncio, so that a worker process can use it as well. `watch`, `values`, `host`:
  what Lua asks of it. `frames`: what an error tells of the user's code.
- `chunk`, `template`: code and `{{ }}` templates, compiled for a runtime. `cache`: what a runtime keeps.
- `performer`, `inline`: the executor. `evaluator`, `aside`: expressions and templates. `console`: a sandbox to type at.
- `check`, `names`: what is wrong with the Lua of a document.
"""
