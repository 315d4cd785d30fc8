"""LiteLLM's completion, and its proxy's health check."""

import asyncio
import base64
import os
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or importing it fetches a file, three times where there is no net

import litellm
from litellm.proxy.health_check import update_litellm_params_for_health_check

from support.demo import ANSWER, CAPTION, QUESTION, TURN


def user(picture: str, text: str | None) -> dict[str, Any]:
    parts = [{"type": "image_url", "image_url": {"url": picture}}]
    return {"role": "user", "content": [*parts, *([{"type": "text", "text": text}] if text else [])]}


def complete(url: str, *messages: dict[str, Any], **options: Any) -> Any:
    return litellm.completion(model="openai/blip2", api_base=url, api_key="any", messages=messages, **options)


def test_a_picture_alone_is_captioned(url: str, picture: str) -> None:
    assert complete(url, user(picture, None)).choices[0].message.content == CAPTION


def test_a_question_is_answered_in_spite_of_a_system_message_and_options_for_other_models(
    url: str, picture: str
) -> None:
    options = {"max_tokens": 4096, "frequency_penalty": 0.5, "user": "ada", "num_retries": 0, "seed": -1}
    said = complete(url, {"role": "system", "content": "Be brief."}, user(picture, QUESTION), **options)
    assert said.choices[0].message.content == ANSWER


def test_an_answer_is_streamed(url: str, picture: str) -> None:
    chunks = complete(url, user(picture, None), stream=True, stream_options={"include_usage": True})
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == CAPTION


def test_a_second_picture_is_the_one_that_is_meant(url: str, picture: str, grey: bytes) -> None:
    first = user(f"data:image/png;base64,{base64.b64encode(grey).decode()}", TURN[0])
    answer = complete(url, first).choices[0].message
    said = complete(url, first, answer.model_dump(), user(picture, TURN[0]))
    assert said.choices[0].message.content == TURN[1]


def test_a_response_is_asked_for(url: str, picture: str) -> None:
    content = [{"type": "input_image", "image_url": picture}, {"type": "input_text", "text": QUESTION}]
    asked: Any = [{"role": "user", "content": content}]
    said = litellm.responses(model="openai/blip2", api_base=url, api_key="any", input=asked)
    assert said.output[0].content[0].text == ANSWER  # type: ignore[union-attr]


def health_of(url: str, model_info: dict[str, Any]) -> dict[str, Any]:
    """Check as the proxy does for a deployment with this model_info."""
    deployment = {"model": "openai/blip2", "api_base": url, "api_key": "any"}
    params = update_litellm_params_for_health_check(model_info, deployment)
    return asyncio.run(litellm.ahealth_check(params, mode=model_info.get("mode"), prompt="test from litellm"))


def test_a_health_check_without_a_picture_fails_with_one_line_that_says_why(url: str) -> None:
    assert "BLIP-2 talks about a picture and there is none" in health_of(url, {})["error"]


def test_the_health_check_that_the_documentation_shows_passes(url: str, picture: str) -> None:
    told = {"mode": "completion", "health_check_params": {"extra_body": {"image": picture}}}
    assert "error" not in health_of(url, told)
