"""Brings executions to engines and facts home: `dispatcher` ties the rooms together, `placement` decides who gets what."""
