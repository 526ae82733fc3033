"""Start-up and supervision of what runs on machines: the Host, our own Ray, checks before it hurts."""
