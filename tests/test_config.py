"""Settings come from BLIP2_* alone; an error about one is a single line."""

from pathlib import Path

import pytest

from blip2_serve.config import DEFAULT_MODEL, Settings, _cgroup_quota, _cgroup_room, available_cpus
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


def test_threads_follow_the_cgroup_quota(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert _cgroup_quota(tmp_path) == 1.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert _cgroup_quota(tmp_path) is None
    assert available_cpus() >= 1


def test_the_older_cgroups_are_understood(tmp_path: Path) -> None:
    assert _cgroup_quota(tmp_path) is None
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("200000\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert _cgroup_quota(tmp_path) == 2.0
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("-1\n")
    assert _cgroup_quota(tmp_path) is None


@pytest.mark.parametrize(
    ("limit", "used", "stat", "inactive"),
    [
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
    ],
)
def test_files_that_were_read_do_not_count_as_memory_in_use(
    tmp_path: Path, limit: str, used: str, stat: str, inactive: str
) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / limit).write_text("1000\n")
    (tmp_path / used).write_text("900\n")
    assert _cgroup_room(tmp_path) == 100
    (tmp_path / stat).write_text(f"anon 200\ninactive_file 600\nactive_file 100\n{inactive} 600\n")
    assert _cgroup_room(tmp_path) == 700


def test_without_a_limit_the_cgroup_says_nothing_about_memory(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("900\n")
    assert _cgroup_room(tmp_path) is None
