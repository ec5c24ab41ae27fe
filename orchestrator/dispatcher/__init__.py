"""Brings executions to engines and facts home: `dispatcher` ties the rooms, `placement` decides who gets what."""
