"""Where sessions work, and what holds their processes and proves them gone."""
