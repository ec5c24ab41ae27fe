"""What performs the attempts of nodes. `base` is the port; each folder beside it is one executor."""
