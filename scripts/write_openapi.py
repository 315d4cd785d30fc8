"""Write docs/openapi.json, the answer of /docs.json, without a server."""

import json
from pathlib import Path

from blip2_serve.api.openapi.document import described
from service import Blip2

OPENAPI = Path(__file__).resolve().parent.parent / "docs" / "openapi.json"


def main() -> None:
    """Write the document; it changes only when routes or fields do."""
    spec = json.loads(json.dumps(Blip2.openapi_spec.asdict()))  # type: ignore[attr-defined]
    OPENAPI.write_text(json.dumps(described(spec), indent=2) + "\n")


if __name__ == "__main__":
    main()
