"""The page at /, without a browser; tests/browser has one."""

import base64
import hashlib
import re

import httpx


def test_the_page_names_no_other_host_and_everything_it_names_is_there(http: httpx.Client) -> None:
    page = http.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "//" not in page.text
    for source in re.findall(r'(?:src|href)="(\./[^"]+)"', page.text):
        assert http.get(source.removeprefix(".")).status_code == 200, source


def test_the_policy_lets_the_pages_own_script_run_and_nothing_from_elsewhere(http: httpx.Client) -> None:
    page = http.get("/")
    policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
    (script,) = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.pop("script-src") == f"'self' 'sha256-{digest}'"
    assert policy.pop("default-src") == "'none'"
    assert set(" ".join(policy.values()).split()) <= {"'self'", "'none'", "data:"}


def test_only_reading_the_page_is_ours(http: httpx.Client) -> None:
    assert http.head("/").headers["content-security-policy"]
    assert http.post("/").status_code == 405
