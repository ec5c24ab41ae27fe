"""What both ends of a session share: the generated messages (`v1`), the opening of a session, and its limits."""
