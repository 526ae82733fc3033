"""Plan files kept in step with the database, over HTTP only, so that it serves a remote server too."""
