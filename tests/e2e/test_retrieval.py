"""Matching, embeddings and reranking on the real server, with curl's bodies and every client that is named."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bentoml
import cohere
import httpx
import numpy as np
import openai
import pytest
from langchain_openai import OpenAIEmbeddings

from support.pictures import jpeg
from support.serving import Server, serve

TEXTS = ["a red circle", "two words", "x"]
WIDTH, NUM_QUERIES = 16, 5


def data_uri(seed: int) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg(40, 30, seed)).decode()}"


def file(seed: int = 0) -> dict[str, tuple[str, bytes]]:
    return {"img": ("a.jpeg", jpeg(40, 30, seed))}


def matches(http: httpx.Client, seed: int = 0) -> list[dict[str, Any]]:
    answer = http.post("/match", files=file(seed), data={"texts": TEXTS})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["matches"]
    return found


def vectors(entry: dict[str, Any]) -> np.ndarray:
    return np.array(entry["vectors"], dtype=np.float32).reshape(entry["shape"])


def test_texts_are_matched_in_each_media_type(http: httpx.Client) -> None:
    in_form = matches(http)
    as_json = http.post("/match", json={"img": data_uri(0), "texts": TEXTS})
    as_urlencoded = http.post("/match", data={"img": data_uri(0), "texts": TEXTS})
    assert [match["text"] for match in in_form] == TEXTS
    for answer in (as_json, as_urlencoded):
        assert answer.headers["X-Model"] == "tiny-itm"
        numbers = [[match["itm"], match["itc"]] for match in answer.json()["matches"]]
        np.testing.assert_allclose(numbers, [[match["itm"], match["itc"]] for match in in_form], atol=1e-5)


def test_a_picture_is_matched_again_by_its_id(http: httpx.Client) -> None:
    first = http.post("/match", files=file(7), data={"texts": ["a"]})
    again = http.post("/match", json={"img_id": first.headers["X-Image-Id"], "texts": ["a"]})
    assert again.json()["matches"][0]["itm"] == pytest.approx(first.json()["matches"][0]["itm"], abs=1e-5)


def test_a_captioned_picture_is_matched_by_its_id(http: httpx.Client) -> None:
    captioned = http.post("/generate", files=file(8), data={"max_new_tokens": 2})
    matched = http.post("/match", json={"img_id": captioned.headers["X-Image-Id"], "texts": ["a"]})
    assert matched.status_code == 200, matched.text


def test_vectors_agree_with_matching(http: httpx.Client) -> None:
    seen = http.post("/embed", files=file()).json()["embeddings"]
    read = http.post("/embed", json={"texts": TEXTS}).json()["embeddings"]
    assert [entry["shape"] for entry in (*seen, *read)] == [[NUM_QUERIES, WIDTH], *[[1, WIDTH]] * 3]
    cosines = (vectors(seen[0]) @ np.concatenate([vectors(entry) for entry in read]).T).max(axis=0)
    np.testing.assert_allclose(cosines, [match["itc"] for match in matches(http)], atol=1e-5)


def test_several_pictures_are_embedded_each_with_its_own_error(http: httpx.Client) -> None:
    answer = http.post("/embed", json={"imgs": [data_uri(1), "no picture", data_uri(2)], "pool": "mean"})
    first, wrong, last = answer.json()["embeddings"]
    assert first["shape"] == last["shape"] == [1, WIDTH]
    assert wrong["error"]["param"] == "imgs"


def test_captions_are_ranked_by_matching(http: httpx.Client) -> None:
    sampled = {"num_captions": 4, "rank_by": "itm", "do_sample": True, "seed": 1, "max_new_tokens": 4}
    captions = http.post("/captions", files=file(3), data=sampled).json()["captions"]
    assert len(captions) > 1
    assert all(0 <= caption["itm"] <= 1 and -1 <= caption["itc"] <= 1 for caption in captions)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/match", {"img": data_uri(0)}, "texts"),
        ("/match", {"texts": ["a"]}, "img"),
        ("/match", {"img": data_uri(0), "texts": ["b " * 70]}, "texts"),
        ("/embed", {"texts": ["a"], "img": data_uri(0)}, "texts"),
        ("/embed", {"texts": ["a", ""]}, "texts"),
        ("/v1/embeddings", {"input": [1, 2]}, "input"),
        ("/v1/embeddings", {"input": ["a", 5.5]}, "input.1"),
        ("/v1/embeddings", {"input": "a", "dimensions": 7}, "dimensions"),
        ("/v1/embeddings", {"input": ["b " * 70]}, "messages"),
        ("/v2/rerank", {"query": "a", "documents": ["b"]}, "documents"),
        ("/v1/rerank", {"query": "a", "documents": [data_uri(0), {"image": "AAAA"}]}, "documents.1"),
    ],
)
def test_a_wrong_request_is_refused_by_its_field(
    http: httpx.Client, path: str, body: dict[str, Any], param: str
) -> None:
    answer = http.post(path, json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) in [(400, param), (415, param)], answer.text


def test_bentoml_s_client_matches_and_embeds(server: Server, http: httpx.Client, tmp_path: Path) -> None:
    picture = tmp_path / "a.jpeg"
    picture.write_bytes(jpeg(40, 30, 0))
    with bentoml.SyncHTTPClient(server.url) as client:
        matched = client.match(img=picture, texts=TEXTS)
        embedded = client.embed(texts=TEXTS, encoding_format="base64")
    assert [match["text"] for match in matched["matches"]] == TEXTS
    assert [match["itm"] for match in matched["matches"]] == pytest.approx([m["itm"] for m in matches(http)], abs=1e-5)
    assert len(base64.b64decode(embedded["embeddings"][0]["vectors"])) == 4 * WIDTH


def test_openai_s_client_embeds_texts_and_pictures(server: Server, http: httpx.Client) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        packed = client.embeddings.create(model="blip2", input=[TEXTS[0], data_uri(0)])
        plain = client.embeddings.create(model="tiny-itm", input=TEXTS[0], encoding_format="float")
        with pytest.raises(openai.NotFoundError):
            client.embeddings.create(model="text-embedding-3-small", input="a")
    np.testing.assert_allclose(packed.data[0].embedding, plain.data[0].embedding, atol=1e-6)
    pooled = http.post("/embed", files=file(), data={"pool": "mean"}).json()["embeddings"][0]
    np.testing.assert_allclose(packed.data[1].embedding, vectors(pooled)[0], atol=1e-5)
    assert packed.usage.total_tokens == plain.usage.total_tokens + NUM_QUERIES


def test_langchain_embeds_documents_and_queries(server: Server, http: httpx.Client) -> None:
    with httpx.Client() as transport:
        embeddings = OpenAIEmbeddings(
            base_url=f"{server.url}/v1",
            api_key="any",
            model="blip2",
            check_embedding_ctx_length=False,
            http_client=transport,
        )
        documents = embeddings.embed_documents(TEXTS)
        query = embeddings.embed_query(TEXTS[1])
    np.testing.assert_allclose(documents[1], query, atol=1e-5)
    read = http.post("/embed", json={"texts": TEXTS}).json()["embeddings"]
    np.testing.assert_allclose(documents, np.concatenate([vectors(entry) for entry in read]), atol=1e-5)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_cohere_s_client_reranks_texts_by_a_picture(server: Server, http: httpx.Client, version: str) -> None:
    make = cohere.ClientV2 if version == "v2" else cohere.Client
    with httpx.Client() as transport:
        client = make(api_key="any", base_url=server.url, httpx_client=transport)
        ranked = client.rerank(model="blip2", query=data_uri(0), documents=TEXTS, top_n=2)
    expected = sorted(enumerate(matches(http)), key=lambda pair: -pair[1]["itm"])[:2]
    assert [result.index for result in ranked.results] == [place for place, _ in expected]
    scores = [result.relevance_score for result in ranked.results]
    assert scores == pytest.approx([match["itm"] for _, match in expected], abs=1e-5)


def test_cohere_s_client_reranks_pictures_by_a_text(server: Server, http: httpx.Client) -> None:
    with httpx.Client() as transport:
        client = cohere.ClientV2(api_key="any", base_url=server.url, httpx_client=transport)
        ranked = client.rerank(model="blip2", query=TEXTS[0], documents=[data_uri(seed) for seed in range(4)])
    scores = {result.index: result.relevance_score for result in ranked.results}
    assert scores == pytest.approx({seed: matches(http, seed)[0]["itm"] for seed in range(4)}, abs=1e-5)
    assert list(scores.values()) == sorted(scores.values(), reverse=True)


def test_jina_s_items_are_reranked_and_returned(http: httpx.Client) -> None:
    body = {"query": {"image": data_uri(0)}, "documents": [{"text": "a"}, {"text": "b"}], "return_documents": True}
    results = http.post("/v1/rerank", json=body).json()["results"]
    assert {result["index"]: result["document"] for result in results} == {0: {"text": "a"}, 1: {"text": "b"}}


def test_both_models_are_listed(http: httpx.Client) -> None:
    assert [model["id"] for model in http.get("/v1/models").json()["data"]] == ["tiny-opt", "tiny-itm"]
    assert http.get("/v1/models/tiny-itm").json()["id"] == "tiny-itm"


@pytest.fixture(scope="module")
def silent(tiny_retrieval_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that matches and writes no text."""
    settings = {"BLIP2_MODEL": "none", "BLIP2_RETRIEVAL_MODEL": str(tiny_retrieval_checkpoint), "BLIP2_UI": "on"}
    with serve(tmp_path_factory.mktemp("silent"), settings) as running:
        yield running


def test_a_server_without_a_writer_matches_and_says_what_it_cannot_do(silent: Server) -> None:
    with httpx.Client(base_url=silent.url, timeout=60) as http:
        assert http.get("/readyz").status_code == 200
        assert len(matches(http)) == len(TEXTS)
        chat = {"model": "blip2", "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}
        refused = [http.post(path, files=file()) for path in ("/generate", "/vqa", "/chat", "/captions", "/choose")]
        refused += [http.post("/batch", files=[("imgs", file()["img"])]), http.post("/v1/chat/completions", json=chat)]
        for answer in refused:
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (404, "model_not_found"), answer.text
            assert "BLIP2_MODEL" in error["message"]
        assert http.get("/ui/").status_code == 404


@pytest.fixture(scope="module")
def plain(tiny_checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that captions and does not match."""
    with serve(tmp_path_factory.mktemp("plain"), {"BLIP2_MODEL": str(tiny_checkpoints["t5"])}) as running:
        yield running


def test_a_server_without_a_matching_model_says_how_to_get_one(plain: Server) -> None:
    answers = [
        httpx.post(f"{plain.url}/match", files=file(), data={"texts": "a"}),
        httpx.post(f"{plain.url}/v1/embeddings", json={"input": "a"}),
        httpx.post(f"{plain.url}/v2/rerank", json={"query": "a", "documents": [data_uri(0)]}),
    ]
    for answer in answers:
        assert answer.status_code == 404, answer.text
        assert "BLIP2_RETRIEVAL_MODEL" in answer.json()["error"]["message"]
    refused = httpx.post(f"{plain.url}/captions", files=file(), data={"rank_by": "itm"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "rank_by")
