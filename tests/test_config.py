"""Settings come from BLIP2_* alone; an error about one is a single line."""

import pytest

from blip2_serve.config import DEFAULT_MODEL, Settings
from blip2_serve.errors import StartupError
from blip2_serve.options import MAX_NUM_BEAMS


def test_without_variables_the_defaults_hold() -> None:
    settings = Settings.from_env({"PATH": "/bin"})
    assert settings == Settings()
    assert settings.model == DEFAULT_MODEL == "Salesforce/blip2-opt-2.7b"
    assert (settings.max_image_pixels, settings.max_request_bytes) == (50_000_000, 20_000_000)


def test_variables_are_read_with_their_types() -> None:
    settings = Settings.from_env({"BLIP2_MODEL": "demo", "BLIP2_THREADS": "3", "BLIP2_DEADLINE_S": "2.5"})
    assert (settings.model, settings.threads, settings.deadline_s) == ("demo", 3, 2.5)


def test_an_empty_variable_counts_as_not_set() -> None:
    assert Settings.from_env({"BLIP2_MODEL": "", "BLIP2_REVISION": ""}) == Settings()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("BLIP2_THREADS", "many", "a whole number"),
        ("BLIP2_THREADS", "0", "1 to 1024"),
        ("BLIP2_DTYPE", "fp16", "float16"),
        ("BLIP2_MCP_HOSTS", "https://captions.example.com", "or any"),
        ("BLIP2_DEVICE", "tpu", "cuda:N"),
        ("BLIP2_DEVICE", "mps", "cuda:N"),
        ("BLIP2_DEVICE", "cuda:99999999999", "cuda:N"),
        ("BLIP2_MAX_IMAGE_PIXELS", "-4", "at least 1"),
        ("BLIP2_MAX_REQUEST_BYTES", "20MB", "bytes"),
        ("BLIP2_DEADLINE_S", "nan", "seconds"),
        ("BLIP2_MAX_ROWS", "15", "16 to 4096"),
        ("BLIP2_CORS_ORIGINS", "app.example.com", "origins"),
        ("BLIP2_CORS_ORIGINS", "https://app.example.com/path", "origins"),
        ("BLIP2_CORS_ORIGINS", "self", "origins"),
        ("BLIP2_FRAME_ANCESTORS", "https://a.example; script-src *", "origins"),
        ("BLIP2_KEEP_ALIVE_S", "0", "1 to 3600"),
        ("BLIP2_USER_AGENT", "a\r\nX: b", "printable"),
    ],
)
def test_a_malformed_variable_is_named_with_its_value_and_what_was_expected(
    name: str, value: str, expected: str
) -> None:
    with pytest.raises(StartupError) as caught:
        Settings.from_env({name: value})
    assert f"{name}={value!r}" in caught.value.message
    assert expected in caught.value.message
    assert "\n" not in caught.value.message


def test_origins_are_read_as_people_write_them() -> None:
    origins = "https://App.example.com/, http://localhost:5173,http://[::1]:8080, chrome-extension://abc"
    settings = Settings.from_env(
        {"BLIP2_CORS_ORIGINS": origins, "BLIP2_FRAME_ANCESTORS": "self, https://*.example.com"}
    )
    assert settings.allowed_origins == (
        "https://app.example.com",
        "http://localhost:5173",
        "http://[::1]:8080",
        "chrome-extension://abc",
    )
    assert settings.frame_policy == "'self' https://*.example.com"
    assert (Settings().allowed_origins, Settings().frame_policy) == ((), "'none'")
    assert Settings.from_env({"BLIP2_CORS_ORIGINS": "*"}).allowed_origins == ("*",)


def test_an_unknown_variable_is_named_and_the_known_ones_listed() -> None:
    with pytest.raises(StartupError, match=r"BLIP2_MODLE='demo' is not a setting.*BLIP2_MODEL"):
        Settings.from_env({"BLIP2_MODLE": "demo"})


@pytest.mark.parametrize(
    "name",
    [
        "BLIP2_PORT",
        "BLIP2_SERVICE_HOST",
        "BLIP2_SERVICE_PORT",
        "BLIP2_SERVICE_PORT_HTTP",
        "BLIP2_PORT_3000_TCP",
        "BLIP2_PORT_3000_TCP_ADDR",
        "BLIP2_PORT_3000_TCP_PROTO",
        "BLIP2_SERVE_SERVICE_HOST",
        "BLIP2_SERVE_PORT_80_UDP_PORT",
    ],
)
def test_service_links_of_kubernetes_are_let_be(name: str) -> None:
    assert Settings.from_env({name: "tcp://10.0.0.1:3000"}) == Settings()


def test_whatever_can_be_set_leaves_room_for_every_number_of_beams_that_can_be_asked_for() -> None:
    assert Settings.from_env({"BLIP2_MAX_ROWS": str(MAX_NUM_BEAMS)}).max_rows == MAX_NUM_BEAMS == 16


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().model = "demo"  # type: ignore[misc]
