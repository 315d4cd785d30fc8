"""generate, vqa and chat over HTTP, as curl and scripts call them."""

import base64
import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from PIL import Image

from blip2_serve.families import OPT
from blip2_serve.model.load import LoadedModel
from blip2_serve.model.reference import Reference
from blip2_serve.options import DecodingOptions
from support.pictures import gradient, jpeg
from support.serving import serve

IMG = {"img": ("a.jpg", jpeg(), "image/jpeg")}


def expected(loaded: LoadedModel, prompt: str, begins: str = "", **options: object) -> str:
    """Return the reference's answer about `jpeg()`."""
    image = Image.open(io.BytesIO(jpeg())).convert("RGB")
    generated = Reference(loaded).generate(image, loaded.encode_text(prompt), DecodingOptions(**options))  # type: ignore[arg-type]
    return (begins + loaded.decode_text(generated.ids)).strip()


def test_a_caption_is_plain_text_and_nothing_else(http: httpx.Client, tiny_models: dict[str, LoadedModel]) -> None:
    reply = http.post("/generate", files=IMG)
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert reply.text == expected(tiny_models["opt"], "")


def test_a_prefix_begins_the_caption(http: httpx.Client, tiny_models: dict[str, LoadedModel]) -> None:
    reply = http.post("/generate", files=IMG, data={"txt": "a photo of"})
    assert reply.text.startswith("a photo of")
    assert reply.text == expected(tiny_models["opt"], "a photo of", begins="a photo of")


def test_a_question_is_answered_and_not_echoed(http: httpx.Client, tiny_models: dict[str, LoadedModel]) -> None:
    reply = http.post("/vqa", files=IMG, data={"txt": "what is it?"})
    short = {"max_new_tokens": 10, "length_penalty": 0.0}
    assert reply.text == expected(tiny_models["opt"], OPT.question_prompt("what is it?"), **short)


def test_a_conversation_goes_on(http: httpx.Client, tiny_models: dict[str, LoadedModel]) -> None:
    turns = [("what?", "a cat"), ("where?", "here")]
    reply = http.post("/chat", files=IMG, data={"txt": "why?", "context": json.dumps(turns)})
    assert reply.text == expected(tiny_models["opt"], OPT.chat_prompt(turns, "why?"))
    assert reply.headers["x-dropped-turns"] == "0"


@pytest.mark.parametrize("path", ["/vqa", "/chat"])
def test_without_a_question_the_default_one_is_asked(http: httpx.Client, path: str) -> None:
    asked = http.post(path, files=IMG, data={"txt": "What is this a picture of?"})
    assert http.post(path, files=IMG).text == asked.text


def test_headers_say_what_the_text_does_not(http: httpx.Client) -> None:
    headers = http.post("/generate", files=IMG, data={"max_new_tokens": 3, "min_new_tokens": 3}).headers
    assert (headers["x-model"], headers["x-new-tokens"], headers["x-finish-reason"]) == ("tiny-opt", "3", "length")
    assert "decode;dur=" in headers["server-timing"]


def test_multipart_urlencoded_and_json_give_the_same_answer(http: httpx.Client) -> None:
    encoded = base64.b64encode(jpeg()).decode()
    replies = [
        http.post("/vqa", files=IMG, data={"txt": "what?", "max_new_tokens": "5"}),
        http.post("/vqa", files=IMG, data={"txt": '"what?"', "max_new_tokens": "5"}),
        http.post("/vqa", files={"img": (None, encoded), "txt": (None, "what?"), "max_new_tokens": (None, "5")}),
        http.post("/vqa", data={"img": encoded, "txt": "what?", "max_new_tokens": "5"}),
        http.post("/vqa", json={"img": encoded, "txt": "what?", "max_new_tokens": 5}),
        http.post("/vqa", json={"img": f"data:image/jpeg;base64,{encoded}", "txt": "what?", "max_new_tokens": 5}),
    ]
    assert {reply.status_code for reply in replies} == {200}
    assert len({reply.text for reply in replies}) == 1


def test_context_is_json_in_a_form_and_a_list_in_json(http: httpx.Client) -> None:
    body = {"img": base64.b64encode(jpeg()).decode(), "txt": "why?", "context": [["what?", "a cat"]]}
    in_form = http.post("/chat", files=IMG, data={"txt": "why?", "context": '[["what?", "a cat"]]'})
    assert http.post("/chat", json=body).text == in_form.text


def test_an_empty_form_field_counts_as_not_given(http: httpx.Client) -> None:
    empty = {"txt": "", "num_beams": "", "seed": "", "temperature": "null"}
    assert http.post("/generate", files=IMG, data=empty).text == http.post("/generate", files=IMG).text


def test_turns_that_do_not_fit_are_dropped_from_the_oldest(http: httpx.Client) -> None:
    turns = [["q" * 90, "a" * 90] for _ in range(6)]
    reply = http.post("/chat", files=IMG, data={"txt": "why?", "context": json.dumps(turns)})
    dropped = int(reply.headers["x-dropped-turns"])
    assert 0 < dropped < 6
    kept = http.post("/chat", files=IMG, data={"txt": "why?", "context": json.dumps(turns[dropped:])})
    assert kept.text == reply.text
    assert kept.headers["x-dropped-turns"] == "0"


def test_the_context_holds_exactly_512_tokens_with_picture_and_answer(http: httpx.Client) -> None:
    # One token per character: BOS, "Question: ", the text, " Answer:", 5 image tokens, 12 new tokens.
    room = 512 - 5 - 12 - 1 - len("Question: ") - len(" Answer:")
    fits = http.post("/vqa", files=IMG, data={"txt": "x" * room, "max_new_tokens": 12})
    assert fits.status_code == 200
    refused = http.post("/vqa", files=IMG, data={"txt": "x" * (room + 1), "max_new_tokens": 12})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "prompt_too_long")


def test_the_same_seed_gives_the_same_text(http: httpx.Client) -> None:
    def sample(seed: int) -> str:
        options = {"do_sample": "true", "temperature": "3", "seed": str(seed), "max_new_tokens": "12"}
        return http.post("/generate", files=IMG, data=options).text

    assert sample(1) == sample(1)
    assert len({sample(seed) for seed in range(4)}) > 1


def test_thirty_two_clients_at_once_each_get_their_own_answer(http: httpx.Client) -> None:
    def caption(seed: int) -> str:
        return http.post("/generate", files={"img": jpeg(seed=seed)}, data={"max_new_tokens": 8}).text

    one_by_one = [caption(seed) for seed in range(32)]
    with ThreadPoolExecutor(32) as clients:
        assert list(clients.map(caption, range(32))) == one_by_one
    assert len(set(one_by_one)) > 4


def test_probes_answer_while_captions_are_made(http: httpx.Client) -> None:
    def caption(seed: int) -> int:
        options = {"num_beams": 16, "max_new_tokens": 64, "min_new_tokens": 64}
        return http.post("/generate", files={"img": jpeg(seed=seed)}, data=options).status_code

    waits = []
    with ThreadPoolExecutor(8) as clients:
        captions = [clients.submit(caption, seed) for seed in range(8)]
        while not all(done.done() for done in captions):
            began = time.perf_counter()
            assert http.get("/livez").status_code == 200
            waits.append(time.perf_counter() - began)
            time.sleep(0.01)
    assert {done.result() for done in captions} == {200}
    assert sorted(waits)[len(waits) * 9 // 10] < 0.1


def test_readyz_is_true_after_the_warm_up(http: httpx.Client) -> None:
    assert http.get("/readyz").status_code == 200


def test_the_openapi_page_shows_fields_and_our_error_shape(http: httpx.Client) -> None:
    spec = http.get("/docs.json").json()
    assert spec["info"]["title"] == "blip2-serve"
    assert "http" not in json.dumps(spec["info"])  # no pictures or links from elsewhere
    post = spec["paths"]["/generate"]["post"]
    fields = post["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert list(fields)[:2] == ["img", "txt"]
    assert "max_new_tokens" in fields
    assert "text/plain" in post["responses"]["200"]["content"]
    assert post["responses"]["400"]["content"]["application/json"]["schema"]["$ref"].endswith("/Error")
    shapes = spec["components"]["schemas"]
    assert shapes["Error"]["properties"] == {"error": {"$ref": "#/components/schemas/ErrorDetails"}}
    assert shapes["ErrorDetails"]["required"] == ["message", "type", "param", "code"]


def test_a_t5_answers_what_it_generates(tiny_checkpoints: dict[str, Path], tmp_path: Path) -> None:
    with serve(tmp_path, {"BLIP2_MODEL": str(tiny_checkpoints["t5"])}) as running:
        prefixed = httpx.post(f"{running.url}/generate", files=IMG, data={"txt": "a photo of"}, timeout=60)
        assert prefixed.status_code == 200
        assert not prefixed.text.startswith("a photo of")
        assert httpx.post(f"{running.url}/vqa", files=IMG, timeout=60).status_code == 200


def test_the_picture_is_what_the_caption_is_about(http: httpx.Client) -> None:
    texts = {http.post("/generate", files={"img": jpeg(seed=seed)}).text for seed in range(5)}
    assert len(texts) > 1
    assert gradient(seed=0).tobytes() != gradient(seed=1).tobytes()
