"""Where the facts of executions go. `base` is the port; `memory` keeps them in this process."""
