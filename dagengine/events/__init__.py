"""What happened: the facts of an execution, and how they become bytes and come back."""
