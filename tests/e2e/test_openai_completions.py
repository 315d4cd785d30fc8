"""OpenAI's older completions, with OpenAI's own Python client, against the real server with the demo checkpoint."""

import asyncio
import base64
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from support.demo import ANSWER, CAPTION, PICTURE, PREFIX, QUESTION
from support.serving import Server

SOURCE = f"data:image/jpeg;base64,{base64.b64encode(PICTURE.read_bytes()).decode()}"
REST = CAPTION.removeprefix(PREFIX)


@pytest.fixture(scope="module")
def client(demo: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{demo.url}/v1", api_key="any", max_retries=0) as sync_client:
        yield sync_client


def write(client: openai.OpenAI, prompt: Any, image: str = SOURCE, **options: Any) -> Any:
    return client.completions.create(model="blip2", prompt=prompt, extra_body={"image": image}, **options)


@pytest.mark.parametrize(
    ("prompt", "options", "said"),
    [
        (PREFIX, {}, REST),
        ([PREFIX], {"echo": True}, CAPTION),
        (None, {}, CAPTION),
        (f"Question: {QUESTION} Answer:", {}, f" {ANSWER}"),
        (PREFIX, {"stop": [REST.split()[2]]}, REST[: REST.index(REST.split()[2])].rstrip()),
        (PREFIX, {"n": 3, "temperature": 2.0, "seed": 3, "logprobs": 2}, None),
    ],
)
def test_a_prompt_is_continued_as_it_is_whole_and_streamed_alike(
    client: openai.OpenAI, prompt: Any, options: dict[str, Any], said: str | None
) -> None:
    whole = write(client, prompt, **options)
    assert said is None or whole.choices[0].text == said
    chunks = list(write(client, prompt, stream=True, stream_options={"include_usage": True}, **options))
    assert chunks[-1].usage == whole.usage
    for choice in whole.choices:
        mine = [each for chunk in chunks for each in chunk.choices if each.index == choice.index]
        assert "".join(each.text for each in mine) == choice.text
        assert mine[-1].finish_reason == choice.finish_reason
        if "logprobs" in options:
            told = [each.logprobs for each in mine if each.logprobs]
            assert [place for each in told for place in each.text_offset] == choice.logprobs.text_offset
            assert [token for each in told for token in each.tokens] == choice.logprobs.tokens


def test_tokens_stand_at_their_places_in_the_text(client: openai.OpenAI) -> None:
    choice = write(client, PREFIX, logprobs=1).choices[0]
    told = choice.logprobs
    places = zip(told.tokens, told.text_offset, strict=True)
    assert all(choice.text.startswith(token, place) for token, place in places)
    pairs = zip(told.tokens, told.token_logprobs, told.top_logprobs, strict=True)
    assert all(likely[token] == logprob for token, logprob, likely in pairs)


def test_a_picture_may_be_named_by_its_id(client: openai.OpenAI) -> None:
    first = client.completions.with_raw_response.create(model="blip2", prompt="", extra_body={"image": SOURCE})
    assert write(client, PREFIX, f"image-id:{first.headers['x-image-id']}").choices[0].text == REST


def test_the_asynchronous_client_streams(demo: Server) -> None:
    async def stream() -> str:
        async with openai.AsyncOpenAI(base_url=f"{demo.url}/v1", api_key="any", max_retries=0) as client:
            chunks = await client.completions.create(
                model="blip2", prompt=PREFIX, stream=True, extra_body={"image": SOURCE}
            )
            return "".join([chunk.choices[0].text async for chunk in chunks])

    assert asyncio.run(stream()) == REST


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": "x " * 5000}, "prompt"),
        ({"prompt": "a", "suffix": "b"}, "suffix"),
        ({"prompt": "a", "extra_body": {}}, "image"),
        ({"prompt": "a", "extra_body": {"image": "data:;base64,AAAA"}}, "image"),
        ({"prompt": "a", "extra_body": {"image": "https://x/a.jpg"}}, "image"),
    ],
)
def test_a_refusal_names_the_field(client: openai.OpenAI, options: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        client.completions.create(**{"model": "blip2", "extra_body": {"image": SOURCE}, **options})
    assert (refused.value.status_code in (400, 415), refused.value.param) == (True, param)
