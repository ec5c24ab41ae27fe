"""Where the facts of executions go. `base` is the port, `memory` keeps them here, `session` sends them to a store."""
