"""From the author's document to tasks and dependencies. Deterministic; no model, no database, no clock."""
