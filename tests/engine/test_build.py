"""An engine is sized for what it runs on."""

import time

from blip2_serve.config import Settings
from blip2_serve.engine.build import build_engine
from blip2_serve.engine.messages import ImageInput, Request
from blip2_serve.model.load import LoadedModel
from blip2_serve.options import DecodingOptions


def test_on_a_cpu_running_rows_wait_for_few_prefills_between_two_tokens(tiny_models: dict[str, LoadedModel]) -> None:
    loaded = tiny_models["opt"]
    engine = build_engine(loaded, Settings(model="tiny"))
    prompt_ids = (1,) * (64 - loaded.num_query_tokens + 1)

    def submit(request_id: int) -> None:
        image = ImageInput(b"black", bytes(loaded.image_size**2 * 3))
        request = Request(request_id, image, prompt_ids, DecodingOptions(num_beams=1, max_new_tokens=9))
        engine.submit(request, lambda event: None)

    submit(0)
    while engine.step():
        time.sleep(0.001)
    for request_id in range(1, 13):
        submit(request_id)
    num_running = []
    for _ in range(3):
        engine.step()
        num_running.append(engine.stats().num_running)
    assert num_running == [4, 8, 12]
