"""What is kept of executions that have ended, and deleting what is not."""
