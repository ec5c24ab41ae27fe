"""Limits above executions, as pure machines: `pools` of room, `rates` of begins, `concurrency` of executions.

Like `dagengine.machine`, they know no clock, no loop and no network: time comes in as data, decisions go out as values.
The engine's gate (`dagengine.driver.gate`) and the orchestrator's dispatcher perform what they decide.
"""
