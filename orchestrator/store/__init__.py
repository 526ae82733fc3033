"""Keeps plans, tasks and attempts in PostgreSQL: the truth of the orchestrator."""
