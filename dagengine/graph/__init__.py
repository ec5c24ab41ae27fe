"""The compiled form of a workflow: nodes as integers, edges as tuples of integers."""

from dagengine.graph.compiled import Graph, NodePlan, compile_document

__all__ = ["Graph", "NodePlan", "compile_document"]
