"""Performs what the machine decides: `driver` runs one execution on an asyncio loop."""

from dagengine.driver.driver import Driver

__all__ = ["Driver"]
