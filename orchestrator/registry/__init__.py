"""The versions of workflows that there are: registering, finding, listing and removing them."""
