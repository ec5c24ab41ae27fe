"""The REST interface: verbs over HTTP, with problem details, server-sent events and an OpenAPI that is true.

`app.create_app` builds it over any `orchestrator.verbs.Verbs`; `server.start` serves it. From the bottom:

- `parameters`, `bodies`: what a request may carry, read and checked.
- `operations`: one declaration per operation; routes and OpenAPI are both made from it.
- `waiting`: requests that wait for an execution, and their release when the server stops.
- `workflows`, `executions`, `events`, `system`, `triggers`: the operations themselves.
- `guard`: host, origin and token before anything else; every error leaves as problem details.
- `openapi`: the description, made from the operations and the types they answer with.
"""
