"""The name under which people serve and deploy: `bentoml serve service:Blip2`. The class is the package's own."""

from blip2_serve.service import Blip2

__all__ = ["Blip2"]
