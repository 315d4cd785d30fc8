"""All that stands in front of the endpoints: bounds on connections, and the middleware in its order."""

from collections.abc import Callable, Sequence
from typing import Any

from blip2_serve.api.connection import bound_connections
from blip2_serve.api.errors import ErrorShape
from blip2_serve.api.mcp.errors import JsonRpcErrors
from blip2_serve.api.middleware.access_log import AccessLog
from blip2_serve.api.middleware.body_limit import BodyLimit
from blip2_serve.api.middleware.client import KnownClient
from blip2_serve.api.middleware.cross_origin import CrossOrigin, Preflights
from blip2_serve.api.middleware.early_refusal import EarlyRefusal
from blip2_serve.api.middleware.pace import Pace
from blip2_serve.api.middleware.plain_errors import PlainErrors
from blip2_serve.api.middleware.relative_redirects import RelativeRedirects
from blip2_serve.api.middleware.remarks import Remarks
from blip2_serve.api.middleware.throttle import Throttle
from blip2_serve.api.openapi.pages import Documents
from blip2_serve.config import Settings

# They take many pictures.
_LARGE_BODIES = ("/batch", "/embed", "/v1/embeddings", "/v1/rerank", "/v2/rerank")


def stand_in_front(
    service: Any, settings: Callable[[], Settings], check_room: Callable[[], None], model_paths: Sequence[str]
) -> None:
    """Add the middleware to a BentoML service, and bound its connections; call it before the server starts.

    Nothing asks for the `settings` before that: importing the service must not read them. `check_room` raises Busy
    where there is no room for one more request at one of `model_paths`, which ask a model.
    """

    def setting(name: str) -> Callable[[], Any]:
        return lambda: getattr(settings(), name)

    origins = setting("allowed_origins")
    large_bodies = dict.fromkeys(_LARGE_BODIES, setting("max_batch_bytes"))
    bound_connections(setting("keep_alive_s"))
    outermost_first: list[tuple[type, dict[str, Any]]] = [
        (CrossOrigin, {"origins": origins}),
        (KnownClient, {"trusted_proxies": setting("trusted_networks")}),
        (PlainErrors, {}),
        (JsonRpcErrors, {}),
        (Throttle, {"paths": model_paths}),
        (AccessLog, {}),
        (Pace, {}),
        (ErrorShape, {}),
        (Preflights, {"origins": origins}),
        (Documents, {"frame_policy": setting("frame_policy")}),
        (Remarks, {}),
        (EarlyRefusal, {"check_room": check_room, "paths": model_paths}),
        (BodyLimit, {"max_bytes": setting("max_request_bytes"), "other_paths": large_bodies}),
        (RelativeRedirects, {}),
    ]
    for middleware, options in outermost_first:
        service.add_asgi_middleware(middleware, **options)
