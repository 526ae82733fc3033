"""CODITECT Task Orchestrator: the domain. Imports neither Ray nor a web framework."""

__version__ = "0.1.0"
