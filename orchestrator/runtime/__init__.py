"""The Ray-free shell around the core: it asks the time, talks to the database and calls the executors."""
