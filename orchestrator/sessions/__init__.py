"""Session backends: one way each to run one attempt to its end. `registry` puts them together."""
