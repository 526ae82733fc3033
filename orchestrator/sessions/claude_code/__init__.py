"""Sessions of the Claude Code command line, behind a proxy of ours."""
