"""Who may ask: the holder of the token in ORCHESTRATOR_HOME/token.

The token travels in the header and nowhere else: a query string ends in access logs, and what a browser sends
by itself would let any page ask in its user's name.
"""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from orchestrator.errors import Unauthorized

_bearer = HTTPBearer(auto_error=False, description="The content of ORCHESTRATOR_HOME/token.")


async def require_token(
    request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> None:
    """Let the request pass if it carries the token; compares in constant time.

    Raises:
        Unauthorized: the token is missing or wrong.
    """
    remedy = "Send `Authorization: Bearer <token>` with the content of ORCHESTRATOR_HOME/token."
    if given is None:
        raise Unauthorized("The request carries no bearer token.", remedy=remedy)
    if not secrets.compare_digest(given.credentials.encode(), request.app.state.token.encode()):
        raise Unauthorized("The bearer token is wrong.", remedy=remedy)
