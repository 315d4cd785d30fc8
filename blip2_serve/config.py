"""Settings: one frozen object, read once from `BLIP2_*`. Only this module reads the environment.

huggingface_hub itself reads HF_TOKEN, HF_HOME and HF_HUB_OFFLINE, with their usual meaning.
"""

import os
import re
from collections.abc import Mapping
from importlib.resources import files
from ipaddress import IPv6Address
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from blip2_serve import __version__
from blip2_serve.clients import Network, networks_of
from blip2_serve.errors import StartupError
from blip2_serve.options import MAX_NUM_BEAMS

PREFIX = "BLIP2_"
MAX_DEADLINE_S = 3600
DEFAULT_MODEL = "Salesforce/blip2-opt-2.7b"
NO_MODEL, NO_RETRIEVAL = "none", "off"
ANY_HOST = "any"
# Wikimedia and others serve nobody who does not say whom to ask.
DEFAULT_USER_AGENT = f"blip2-serve/{__version__} (+https://pypi.org/project/blip2-serve/)"
# A folder on disk, never a zip file: transformers and safetensors map the weights from their path.
_PACKAGE = Path(str(files("blip2_serve")))

# Kubernetes sets these for every Service called "blip2" or "blip2-something" in the pod's namespace.
_SERVICE_LINK = re.compile(
    r"BLIP2_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)


# A name, an IPv4 address, or an IPv6 address in brackets; perhaps a port.
LISTED_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:(?P<port>\d{1,5}))?")
# A scheme and a host, perhaps with a port: nothing that could end the header it stands in.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[a-z0-9*._:\[\]-]+")
_FRAMES = ("self", "none")


class Settings(BaseModel):
    """All settings; field `max_queue` is the variable `BLIP2_MAX_QUEUE`, and so on."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    model: str = Field(DEFAULT_MODEL, description="demo, demo-t5, a hub id or a folder; none for no captions")
    revision: str | None = Field(None, description="a branch, tag or commit of the hub repository")
    adapter: str | None = Field(None, description="a folder or a hub id with a LoRA adapter for BLIP2_MODEL")
    adapter_revision: str | None = Field(None, description="a branch, tag or commit of the hub repository")
    retrieval_model: str = Field("off", description="off, demo-itm, a hub id or a folder")
    retrieval_revision: str | None = Field(None, description="a branch, tag or commit of the hub repository")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d{1,2})?)$", description="auto, cpu, cuda or cuda:N")
    device_map: Literal["off", "auto"] = Field("off", description="off or auto")
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto", description="auto, float32, float16 or bfloat16"
    )
    quantize: Literal["none", "int8", "int4"] = Field("none", description="none, int8 or int4")
    threads: int | None = Field(None, ge=1, le=1024, description="a whole number of CPU threads, 1 to 1024")
    max_image_pixels: int = Field(50_000_000, ge=1, description="a whole number of pixels, at least 1")
    truncated_images: Literal["refuse", "accept"] = Field("refuse", description="refuse or accept")
    color: Literal["reference", "srgb"] = Field("reference", description="reference or srgb")
    max_request_bytes: int = Field(20_000_000, ge=1024, description="a whole number of bytes, at least 1024")
    max_batch_bytes: int = Field(200_000_000, ge=1024, description="a whole number of bytes, at least 1024")
    max_rows: int | None = Field(
        None, ge=MAX_NUM_BEAMS, le=4096, description=f"a whole number of rows, {MAX_NUM_BEAMS} to 4096"
    )
    image_cache_bytes: int = Field(2**28, ge=0, description="a whole number of bytes, 0 for no cache")
    confidence_file: str | None = Field(None, description="a file that blip2-serve calibrate wrote")
    vision_cache_bytes: int = Field(2**28, ge=0, description="a whole number of bytes, 0 for no cache")
    image_cache_dir: str | None = Field(None, description="a folder that can be written to")
    image_urls: str = Field(
        "off",
        description="off, public, or hosts with commas between them, such as images.example.com,10.0.0.5:8080",
    )
    deadline_s: float = Field(300.0, gt=0, le=MAX_DEADLINE_S, description="seconds, above 0, at most 3600")
    ui: Literal["on", "off"] = Field("on", description="on or off")
    strict: Literal["on", "off"] = Field("off", description="on or off")
    model_aliases: str = Field("", description="names with commas between them, such as gpt-4o,captioner")
    any_model_name: Literal["on", "off"] = Field("off", description="on or off")
    mcp_hosts: str = Field(
        "", description="names with commas between them, such as captions.example.com,blip2:3000, or any"
    )
    max_queue: int = Field(1024, ge=1, description="a whole number of waiting requests, at least 1")
    max_queue_s: float = Field(10.0, gt=0, le=MAX_DEADLINE_S, description="seconds of work, above 0, at most 3600")
    trusted_proxies: str = Field(
        "", description="addresses or networks with commas between them, such as 10.0.0.0/8,192.168.1.7"
    )
    cors_origins: str = Field(
        "", description="* or origins with commas between them, such as https://app.example.com,http://localhost:5173"
    )
    frame_ancestors: str = Field(
        "none", description="none, self, * or origins with commas between them, such as https://intra.example.com"
    )
    keep_alive_s: int = Field(75, ge=1, le=3600, description="a whole number of seconds, 1 to 3600")
    user_agent: str = Field(
        DEFAULT_USER_AGENT, pattern=r"^[!-~][ -~]{0,254}[!-~]$", description="printable ASCII, 2 to 256 characters"
    )

    @field_validator("image_urls")
    @classmethod
    def _hosts_are_hosts(cls, setting: str) -> str:
        if not all(_is_host(host.strip()) for host in setting.split(",")):
            raise ValueError
        return setting.strip().lower()

    @field_validator("mcp_hosts")
    @classmethod
    def _names_are_hosts(cls, setting: str) -> str:
        if setting.strip() and not all(_is_host(host.strip()) for host in setting.split(",")):
            raise ValueError
        return setting.strip().lower()

    @field_validator("cors_origins", "frame_ancestors")
    @classmethod
    def _origins_are_origins(cls, setting: str, info: ValidationInfo) -> str:
        origins = _origins_in(setting)
        words = ("*",) if info.field_name == "cors_origins" else ("*", *_FRAMES)
        if not all(origin in words or _ORIGIN.fullmatch(origin) for origin in origins):
            raise ValueError
        return ",".join(origins)

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies_are_networks(cls, setting: str) -> str:
        networks_of(setting)
        return setting

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> "Settings":
        """Read every `BLIP2_*` variable; an empty variable counts as not set.

        Raises:
            StartupError: a variable is unknown or malformed; the message has its name, its value and valid values.
        """
        variables = _own_variables(os.environ if environ is None else environ)
        try:
            settings = cls.model_validate({name: value for name, value in variables.items() if value != ""})
        except ValidationError as error:
            raise StartupError(_explain(error, variables)) from None
        if not settings.writes_text and not settings.retrieves:
            raise StartupError(
                f"{settings.spelled('model')} leaves nothing to serve: set BLIP2_RETRIEVAL_MODEL, or BLIP2_MODEL."
            )
        if settings.adapter is not None and not settings.writes_text:
            raise StartupError(f"{settings.spelled('adapter')} is merged into BLIP2_MODEL, which is none: set it.")
        return settings

    @property
    def writes_text(self) -> bool:
        """True unless there is no model that captions and answers."""
        return self.model != NO_MODEL

    @property
    def retrieves(self) -> bool:
        """True if a model matches pictures with texts."""
        return self.retrieval_model != NO_RETRIEVAL

    def spelled(self, field: str) -> str:
        """Spell a setting as it stands in the environment, for messages: BLIP2_MODEL='demo'."""
        return f"{PREFIX}{field.upper()}={getattr(self, field)!r}"

    @property
    def demo_folder(self) -> Path:
        """The folder of the bundled checkpoints: package data, in a clone, a Bento or an installed wheel."""
        return _PACKAGE / "checkpoints"

    @property
    def aliases(self) -> tuple[str, ...]:
        """Further names by which foreign clients may ask for the model."""
        return tuple(filter(None, map(str.strip, self.model_aliases.split(","))))

    @property
    def trusted_networks(self) -> tuple[Network, ...]:
        """The proxies whose X-Forwarded-For is believed."""
        return networks_of(self.trusted_proxies)

    @property
    def mcp_names(self) -> frozenset[str]:
        """The names under which /mcp is served beside localhost and addresses; see `api/mcp/hosts.py`."""
        return frozenset(host.strip() for host in self.mcp_hosts.split(",") if host.strip())

    @property
    def allowed_origins(self) -> tuple[str, ...]:
        """The origins whose pages may call the server; ("*",) for all."""
        return _origins_in(self.cors_origins)

    @property
    def frame_policy(self) -> str:
        """The Content-Security-Policy's frame-ancestors: the pages that may show ours inside."""
        sources = _origins_in(self.frame_ancestors)
        return " ".join(f"'{source}'" if source in _FRAMES else source for source in sources)

    @property
    def examples(self) -> tuple[Path, ...]:
        """Example pictures for the web page: demo.jpeg in a clone or a Bento, then the package's own."""
        return *_PACKAGE.parent.glob("demo.jpeg"), *sorted(_PACKAGE.glob("ui/examples/*.jpeg"))


def variables_with(**settings: str | None) -> dict[str, str]:
    """Build a child process's environment: ours, with `BLIP2_*` from `settings`; None leaves a variable as it is.

    BentoML's usage reports stay off unless our environment turns them on.
    """
    given = {f"{PREFIX}{name.upper()}": value for name, value in settings.items() if value is not None}
    return {"BENTOML_DO_NOT_TRACK": "True", **os.environ, **given}


def decoder_variables() -> dict[str, str]:
    """Build the environment of a picture decoder: what Python needs to find itself and this package, and no secrets.

    One thread and one arena keep its memory what the picture takes.
    """
    needed = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME", "LANG", "LC_ALL", "TMPDIR")
    found = {name: os.environ[name] for name in needed if name in os.environ}
    path = os.pathsep.join(filter(None, [str(_PACKAGE.parent), os.environ.get("PYTHONPATH")]))
    return {**found, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}


def keep_gradio_files_in(folder: Path) -> None:
    """Make gradio, which takes this from its environment alone, keep visitors' pictures in `folder`."""
    os.environ["GRADIO_TEMP_DIR"] = str(folder)


def _origins_in(setting: str) -> tuple[str, ...]:
    """Split a list of origins; browsers write them in lower case and without a slash behind."""
    return tuple(origin.strip().rstrip("/").lower() for origin in setting.split(",") if origin.strip())


def _is_host(text: str) -> bool:
    listed = LISTED_HOST.fullmatch(text)
    if listed is None or int(listed["port"] or 80) not in range(1, 65_536):
        return False
    try:
        return not text.startswith("[") or bool(IPv6Address(listed["host"].strip("[]")))
    except ValueError:
        return False


def _own_variables(environ: Mapping[str, str]) -> dict[str, str]:
    return {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environ.items()
        if name.startswith(PREFIX) and not _SERVICE_LINK.fullmatch(name)
    }


def _explain(error: ValidationError, variables: Mapping[str, str]) -> str:
    name = str(error.errors()[0]["loc"][0])
    variable = f"{PREFIX}{name.upper()}={variables[name]!r}"
    if name in Settings.model_fields:
        return f"{variable} is not valid: expected {Settings.model_fields[name].description}."
    known = ", ".join(f"{PREFIX}{field.upper()}" for field in Settings.model_fields)
    return f"{variable} is not a setting of blip2-serve: remove it, or use one of {known}."
